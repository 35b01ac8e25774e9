"""Logits to tokens, for all rows of a step at once and without loops over them.

A row is drawn by inverting the distribution function over the vocabulary at one uniform number, which is a hash of the
request's seed and the token's position: a result does not depend on the batch, its order, or a preemption. The rules
apply in the order temperature, top_k, top_p, min_p; tokens that tie with the last one kept are kept too.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.request import SampledToken
from runtime.protocol import SamplingParams

_CANDIDATES = 1024
"""So many of a row's best logits are looked at first; rows whose rules keep more are sorted whole."""

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
            token_ids[drawn] = _draw(logits[drawn], [rows[index] for index in drawn])
    else:
        token_ids = _draw(logits, rows)
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


def _draw(logits: torch.Tensor, rows: list[SampledRow]) -> torch.Tensor:
    logits = logits.float()
    device = logits.device
    temperature = _column([row.params.temperature for row in rows], device)
    # Subtracting before dividing: the best logit becomes 0 and its weight 1, however small the temperature.
    weights = (logits - logits.amax(dim=-1, keepdim=True)).div_(temperature).exp_()
    truncated = [index for index, row in enumerate(rows) if row.params.top_k > 0 or row.params.top_p < 1]
    if truncated:
        params = [rows[index].params for index in truncated]
        weights[truncated] = _truncate(weights[truncated], params)
    if any(row.params.min_p > 0 for row in rows):
        min_p = _column([row.params.min_p for row in rows], device)
        weights.masked_fill_(weights < min_p, 0)
    uniform = torch.from_numpy(uniforms([row.seed for row in rows], [row.position for row in rows])).to(device)
    return _invert(weights, uniform)


def _truncate(weights: torch.Tensor, params: list[SamplingParams]) -> torch.Tensor:
    """Zero what top_k and top_p exclude. Weights are relative to the row's best, which is 1."""
    vocab_size = weights.shape[1]
    # Elsewhere than on a CPU, asking whether the candidates suffice would wait for the device.
    num_candidates = min(_CANDIDATES, vocab_size) if weights.device.type == "cpu" else vocab_size
    threshold, is_exact = _threshold(weights, params, num_candidates)
    if num_candidates < vocab_size and not is_exact.all():
        short = (~is_exact).nonzero().squeeze(1)
        threshold[short], _ = _threshold(weights[short], [params[index] for index in short.tolist()], vocab_size)
    return weights.masked_fill(weights < threshold, 0)


def _threshold(
    weights: torch.Tensor, params: list[SamplingParams], num_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest weight that each row keeps, as a column, and whether so few candidates were enough to tell."""
    device = weights.device
    ranked = weights.topk(num_candidates, dim=-1).values
    top_k = torch.tensor([p.top_k if p.top_k > 0 else weights.shape[1] for p in params], device=device).unsqueeze(1)
    kth = ranked.gather(1, top_k.clamp(max=num_candidates) - 1)
    is_open = top_k > num_candidates  # the k-th best is not among the candidates
    kept = ranked.double().masked_fill_((ranked < kth) & ~is_open, 0)
    total = torch.where(is_open, weights.sum(dim=-1, keepdim=True, dtype=torch.float64), kept.sum(-1, keepdim=True))
    top_p = _column([p.top_p if p.top_p < 1 else 2.0 for p in params], device)
    # A token stays as long as those better than it have not reached top_p by themselves.
    better = kept.cumsum(dim=-1) - kept
    num_kept = ((better < top_p * total) & (kept > 0)).sum(dim=-1, keepdim=True).clamp_(min=1)
    threshold = ranked.gather(1, num_kept - 1)
    return threshold, (num_kept < num_candidates).squeeze(1)


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first token at which the running sum of a row's weights exceeds its share `uniform` of the total."""
    num_rows, vocab_size = weights.shape
    padded = torch.nn.functional.pad(weights, (0, -vocab_size % _SEGMENT)).view(num_rows, -1, _SEGMENT)
    segment_sums = padded.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    segment, rest = _search(segment_sums, uniform * segment_sums[:, -1])
    chosen = padded[torch.arange(num_rows, device=weights.device), segment]
    offset, _ = _search(chosen.cumsum(dim=-1, dtype=torch.float64), rest)
    return (segment * _SEGMENT + offset).clamp_(max=vocab_size - 1)  # a row of NaN ends behind the vocabulary


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
