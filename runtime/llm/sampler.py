"""Logits to tokens, for all rows of a step together.

A row is drawn by inverting the distribution function over the vocabulary at one uniform number, which is a hash of the
request's seed and the token's position: a result does not depend on the batch, its order, or a preemption. The rules
apply in the order temperature, top_k, top_p, min_p; tokens that tie with the last one kept are kept too.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.request import SampledToken
from runtime.protocol import SamplingParams

_CANDIDATES = (128, 2048)
"""So many of a row's best tokens are looked at, then so many if the rules keep more, then all."""

_ROWS_AT_ONCE = 4
"""On a CPU, so that a vocabulary's weights stay in its cache: five times as fast as 32 rows at once."""

_SEGMENT = 512
"""Vocabulary entries summed up together before the running sum."""


class SampledRow(NamedTuple):
    params: SamplingParams
    seed: int
    position: int
    """Of the token to be drawn, in prompt and output."""
    num_logprobs: int | None


def sample(logits: torch.Tensor, rows: list[SampledRow]) -> list[SampledToken]:
    """One token for each row of `logits` [rows, vocabulary]."""
    drawn = [index for index, row in enumerate(rows) if row.params.temperature > 0]
    if len(drawn) < len(rows):
        token_ids = logits.max(dim=-1).indices  # argmax takes four times as long on bfloat16
        if drawn:
            token_ids[drawn] = _draw_all(logits[drawn], [rows[index] for index in drawn])
    else:
        token_ids = _draw_all(logits, rows)
    sampled = [SampledToken(token_id, None, []) for token_id in token_ids.tolist()]
    asking = [index for index, row in enumerate(rows) if row.num_logprobs is not None]
    if asking:
        _add_logprobs(sampled, logits, rows, asking)
    return sampled


def uniforms(seeds: list[int], positions: list[int]) -> NDArray[np.float64]:
    """A number in [0, 1) for each (seed, position), by two rounds of the splitmix64 finaliser."""
    state = _mix(np.array(seeds, dtype=np.uint64) ^ np.uint64(0x5851F42D4C957F2D))
    state = _mix(state + (np.array(positions, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _draw_all(logits: torch.Tensor, rows: list[SampledRow]) -> torch.Tensor:
    step = _ROWS_AT_ONCE if logits.device.type == "cpu" else len(rows)
    starts = range(0, len(rows), step)
    return torch.cat([_draw(logits[start : start + step], rows[start : start + step]) for start in starts])


def _draw(logits: torch.Tensor, rows: list[SampledRow]) -> torch.Tensor:
    logits = logits.float()
    device = logits.device
    # Subtracting before dividing: the best logit becomes 0 and its weight 1, however small the temperature.
    # exp2 takes a third of the time of exp.
    exponents = _column([min(math.log2(math.e) / row.params.temperature, 1e30) for row in rows], device)
    weights = (logits - logits.amax(dim=-1, keepdim=True)).mul_(exponents).exp2_()
    truncated = [index for index, row in enumerate(rows) if row.params.top_k > 0 or row.params.top_p < 1]
    if len(truncated) == len(rows):
        weights.mul_(_where_at_least(weights, _thresholds(weights, [row.params for row in rows])))
    elif truncated:
        threshold = torch.zeros(len(rows), 1, device=device)
        threshold[truncated] = _thresholds(weights[truncated], [rows[index].params for index in truncated])
        weights.mul_(_where_at_least(weights, threshold))
    if any(row.params.min_p > 0 for row in rows):
        weights.mul_(_where_at_least(weights, _column([row.params.min_p for row in rows], device)))
    uniform = torch.from_numpy(uniforms([row.seed for row in rows], [row.position for row in rows])).to(device)
    return _invert(weights, uniform)


def _where_at_least(weights: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """1.0 or 0.0: a mask of floats multiplies twenty times as fast as one of booleans fills."""
    return torch.ge(weights, threshold, out=torch.empty_like(weights))


def _thresholds(weights: torch.Tensor, params: list[SamplingParams]) -> torch.Tensor:
    """The smallest weight that top_k and top_p leave to each row, as a column."""
    vocab_size = weights.shape[1]
    # Elsewhere than on a CPU, asking whether the candidates suffice would wait for the device.
    ladder = [size for size in _CANDIDATES if size < vocab_size] if weights.device.type == "cpu" else []
    thresholds = torch.empty(len(params), 1, device=weights.device)
    remaining = list(range(len(params)))
    rows = weights
    for num_candidates in [*ladder, vocab_size]:
        found, is_exact = _threshold(rows, [params[index] for index in remaining], num_candidates)
        thresholds[remaining] = found
        if num_candidates == vocab_size or is_exact.all():
            break
        remaining = [index for index, exact in zip(remaining, is_exact.tolist(), strict=True) if not exact]
        rows = weights[remaining]
    return thresholds


def _threshold(
    weights: torch.Tensor, params: list[SamplingParams], num_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The thresholds as far as the best candidates tell, and for which rows they were enough.

    Weights are relative to the row's best, which is 1.
    """
    device = weights.device
    ranked = weights.topk(num_candidates, dim=-1).values
    top_k = torch.tensor([p.top_k if p.top_k > 0 else weights.shape[1] for p in params], device=device).unsqueeze(1)
    kth = ranked.gather(1, top_k.clamp(max=num_candidates) - 1)
    is_open = top_k > num_candidates  # the k-th best is not among the candidates
    kept = ranked.double().masked_fill_((ranked < kth) & ~is_open, 0)
    total = kept.sum(dim=-1, keepdim=True)
    if num_candidates < weights.shape[1]:
        total = torch.where(is_open, _segments(weights).sum(dim=-1).double().sum(dim=-1, keepdim=True), total)
    top_p = _column([p.top_p if p.top_p < 1 else 2.0 for p in params], device)
    # A token stays as long as those better than it have not reached top_p by themselves.
    better = kept.cumsum(dim=-1) - kept
    num_kept = ((better < top_p * total) & (kept > 0)).sum(dim=-1, keepdim=True).clamp_(min=1)
    threshold = ranked.gather(1, num_kept - 1)
    return threshold, (num_kept < num_candidates).squeeze(1)


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first token at which the running sum of a row's weights exceeds its share `uniform` of the total."""
    num_rows, vocab_size = weights.shape
    segments = _segments(weights)
    segment_sums = segments.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    segment, rest = _search(segment_sums, uniform * segment_sums[:, -1])
    chosen = segments[torch.arange(num_rows, device=weights.device), segment]
    offset, _ = _search(chosen.cumsum(dim=-1, dtype=torch.float64), rest)
    return (segment * _SEGMENT + offset).clamp_(max=vocab_size - 1)  # a row of NaN ends behind the vocabulary


def _segments(weights: torch.Tensor) -> torch.Tensor:
    """[rows, segments, entries], padded with weight 0.

    Summed up in two steps a row's total has the same rounding in any batch; in one, torch splits a lone row by threads.
    """
    num_rows, vocab_size = weights.shape
    return torch.nn.functional.pad(weights, (0, -vocab_size % _SEGMENT)).view(num_rows, -1, _SEGMENT)


def _search(running_sum: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first entry of each row that exceeds `target`, and how far `target` reaches into it."""
    last = running_sum[:, -1]
    # Rounding must not carry the target past the end, where only padding or tokens of weight 0 are.
    target = torch.minimum(target, torch.nextafter(last, torch.zeros_like(last))).unsqueeze(1)
    index = torch.searchsorted(running_sum, target, right=True)
    index.clamp_(max=running_sum.shape[1] - 1)
    before = running_sum.gather(1, (index - 1).clamp_(min=0)).masked_fill_(index == 0, 0)
    return index.squeeze(1), (target - before).squeeze(1)


def _add_logprobs(sampled: list[SampledToken], logits: torch.Tensor, rows: list[SampledRow], asking: list[int]) -> None:
    logprobs = logits[asking].float().log_softmax(dim=-1)
    token_ids = torch.tensor([[sampled[index].token_id] for index in asking], device=logits.device)
    chosen = logprobs.gather(1, token_ids).squeeze(1).tolist()
    counts = [rows[index].num_logprobs or 0 for index in asking]
    best = logprobs.topk(max(counts), dim=-1)
    top_values, top_ids = best.values.tolist(), best.indices.tolist()
    for row, (index, count) in enumerate(zip(asking, counts, strict=True)):
        top = list(zip(top_ids[row][:count], top_values[row][:count], strict=True))
        sampled[index] = sampled[index]._replace(logprob=chosen[row], top=top)


def _column(values: list[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).unsqueeze(1)
