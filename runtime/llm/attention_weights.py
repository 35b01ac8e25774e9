"""Values weighed by the scores of their keys, in plain torch: by torch's own kernels where those know how, else with
the scores written out. Knows tensors, neither caches nor requests."""

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from runtime.llm.forward_context import Scoring

_WRITTEN_SCORES_MAX = 2**22
"""Scores that are held at once where torch's kernels, which hold none, cannot be used."""


def weigh(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scoring: Scoring,
    *,
    is_causal: bool,
) -> torch.Tensor:
    """The values weighed by the scores of the keys; all are [.., .., positions, size], and sinks' sizes fit those.

    `mask` is added to the scores; a window is in it.
    """
    if scoring.softcap is not None or scoring.sinks is not None:
        return _weigh_written_scores(query, key, value, mask, scoring, is_causal=is_causal)
    scaling = scoring.scaling
    value_size = value.shape[-1]
    if key.shape[-1] == value_size:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal, scale=scaling)
    # Zeros change nothing, and with sizes that differ torch would write out all scores.
    size = max(key.shape[-1], value_size)
    query, key, value = (pad(tensor, (0, size - tensor.shape[-1])) for tensor in (query, key, value))
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal, scale=scaling)
    return output[..., :value_size]


def _weigh_written_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scoring: Scoring,
    *,
    is_causal: bool,
) -> torch.Tensor:
    """torch's kernels neither cap scores nor know sinks, so scores are written out, as many as memory allows."""
    num_queries, num_keys = query.shape[-2], key.shape[-2]
    num_at_once = max(1, _WRITTEN_SCORES_MAX // (query.shape[0] * query.shape[1] * num_keys))
    outputs = []
    # Scores in bfloat16 would be an eighth apart near a cap of 50.
    query, key = query.float(), key.float()
    sinks = None if scoring.sinks is None else scoring.sinks.float().expand(*query.shape[:-1], 1)
    for start in range(0, num_queries, num_at_once):
        rows = slice(start, min(start + num_at_once, num_queries))
        scores = query[..., rows, :] @ key.transpose(-1, -2) * scoring.scaling
        if scoring.softcap is not None:
            scores = scores.div_(scoring.softcap).tanh_().mul_(scoring.softcap)
        if is_causal:
            positions = torch.arange(num_keys, device=query.device)
            scores = scores.masked_fill_(positions > positions[rows, None], float("-inf"))
        elif mask is not None:
            scores = scores.add_(mask[..., rows, :] if mask.shape[-2] > 1 else mask)
        if sinks is not None:
            scores = torch.cat((scores, sinks[..., rows, :]), dim=-1)
        weights = scores.softmax(dim=-1)[..., :num_keys]
        outputs.append(weights.to(value.dtype) @ value)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-2)
