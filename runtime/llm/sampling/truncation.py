"""Which tokens top_k, top_p and typical_p leave to a row. Tokens that tie with the last one kept are kept too.

On a CPU a row's best candidates are looked at in widening circles, for they nearly always suffice; elsewhere all at
once, since asking whether they suffice would wait for the device.
"""

from collections.abc import Callable

import torch

from runtime.llm.sampling.draw import totals

_CANDIDATES = (128, 2048)
"""So many of a row's best tokens are looked at, then so many if the rules keep more, then all."""

Indices = list[int] | slice
FindThresholds = Callable[[torch.Tensor, Indices, int], tuple[torch.Tensor, torch.Tensor]]
"""(values of some rows, these rows' indices, how many candidates) → thresholds as a column, and which are exact."""


def top_thresholds(weights: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The smallest weight that top_k (0: none) and then top_p (above 1: none) leave to each row, as a column.

    Weights are relative to the row's best, which is 1.
    """
    top_k = torch.where(top_k > 0, top_k, weights.shape[1])

    def find(rows: torch.Tensor, indices: Indices, num_candidates: int) -> tuple[torch.Tensor, torch.Tensor]:
        return _find_top(rows, top_k[indices].unsqueeze(1), top_p[indices].unsqueeze(1), num_candidates)

    return _widen(weights, find)


def keep_typical(weights: torch.Tensor, masses: torch.Tensor) -> torch.Tensor:
    """Weight 0 for all but the tokens whose surprise is nearest to the row's entropy and that make up its mass.

    What is left is relative to the best of it, as top_k and the others expect it.
    """
    total = totals(weights)
    shares = (weights / total).float()
    surprises = -shares.log()  # infinite where the weight is 0
    entropy = totals(torch.where(weights > 0, shares * surprises, 0)).float()
    nearness = surprises.sub_(entropy).abs_().neg_()
    mass = masses.unsqueeze(1)

    def find(rows: torch.Tensor, indices: Indices, num_candidates: int) -> tuple[torch.Tensor, torch.Tensor]:
        nearest = rows.topk(num_candidates, dim=-1)
        reached = shares[indices].gather(1, nearest.indices).double().cumsum(dim=-1)
        last = (reached < mass[indices]).sum(dim=-1, keepdim=True)
        return nearest.values.gather(1, last.clamp(max=num_candidates - 1)), (last < num_candidates).squeeze(1)

    kept = weights * keep_mask(nearness, _widen(nearness, find))
    return kept / kept.amax(dim=-1, keepdim=True)


def keep_mask(values: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """1.0 where a value is at least its threshold, else 0.0: floats multiply twenty times as fast as booleans fill."""
    return torch.ge(values, threshold, out=torch.empty_like(values))


def _widen(values: torch.Tensor, find: FindThresholds) -> torch.Tensor:
    vocab_size = values.shape[1]
    ladder = [size for size in _CANDIDATES if size < vocab_size] if values.device.type == "cpu" else []
    if not ladder:
        return find(values, slice(None), vocab_size)[0]
    thresholds = torch.empty(len(values), 1)
    remaining = list(range(len(values)))
    rows = values
    for num_candidates in [*ladder, vocab_size]:
        found, is_exact = find(rows, remaining, num_candidates)
        thresholds[remaining] = found
        if num_candidates == vocab_size or is_exact.all():
            break
        remaining = [index for index, exact in zip(remaining, is_exact.tolist(), strict=True) if not exact]
        rows = values[remaining]
    return thresholds


def _find_top(
    weights: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor, num_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    ranked = weights.topk(num_candidates, dim=-1).values
    kth = ranked.gather(1, top_k.clamp(max=num_candidates) - 1)
    is_open = top_k > num_candidates  # the k-th best is not among the candidates
    kept = ranked.double().masked_fill_((ranked < kth) & ~is_open, 0)
    total = kept.sum(dim=-1, keepdim=True)
    if num_candidates < weights.shape[1]:
        total = torch.where(is_open, totals(weights), total)
    # A token stays as long as those better than it have not reached top_p by themselves.
    better = kept.cumsum(dim=-1) - kept
    num_kept = ((better < top_p * total) & (kept > 0)).sum(dim=-1, keepdim=True).clamp_(min=1)
    threshold = ranked.gather(1, num_kept - 1)
    return threshold, (num_kept < num_candidates).squeeze(1)
