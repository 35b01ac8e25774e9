"""One vector of each text out of the vectors of its tokens, as sentence-transformers' Pooling does it.

Works on the flat sequence of a step, without padding. Sums are taken in float32 whatever the model computes in.
"""

import torch

from runtime.embedding.layout import Layout


def pool(hidden: torch.Tensor, layout: Layout, mode: str) -> torch.Tensor:
    """[texts, hidden size] in float32 of [tokens, hidden size]; `mode` as in `EmbeddingInfo.pooling`."""
    match mode:
        case "cls":
            return hidden[layout.first_places].float()
        case "lasttoken":
            return hidden[layout.last_places].float()
        case "max":
            return _segments(hidden, layout, "max")
        case "mean":
            return _segments(hidden, layout, "mean")
        case "mean_sqrt_len_tokens":
            return _segments(hidden, layout, "sum") / layout.sizes.sqrt()[:, None]
        case "weightedmean":
            # The n-th token weighs n.
            weighted = hidden.float() * (layout.positions + 1)[:, None]
            return _segments(weighted, layout, "sum") / (layout.sizes * (layout.sizes + 1) / 2)[:, None]
    raise AssertionError(mode)


def _segments(hidden: torch.Tensor, layout: Layout, reduce: str) -> torch.Tensor:
    if len(layout.lengths) == 1:
        own = hidden.float()
        reduced = own.amax(0) if reduce == "max" else own.mean(0) if reduce == "mean" else own.sum(0)
        return reduced[None]
    return torch.segment_reduce(hidden.float(), reduce, lengths=layout.sizes, axis=0)
