"""One token for each row of weights, by inverting the distribution function over the vocabulary at one uniform number.

That number is a hash of the request's seed and the token's position: a result does not depend on the batch, its order,
or a preemption. Sums are taken so that a row's rounding is the same in any batch.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.llm.sampling.kernels import SamplingKernels

_SEGMENT = 512
"""Vocabulary entries summed up together before the running sum."""


def uniforms(seeds: list[int], positions: list[int]) -> NDArray[np.float64]:
    """A number in [0, 1) for each (seed, position), by two rounds of the splitmix64 finaliser."""
    state = _mix(np.array(seeds, dtype=np.uint64) ^ np.uint64(0x5851F42D4C957F2D))
    state = _mix(state + (np.array(positions, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(weights: torch.Tensor, uniform: torch.Tensor, kernels: SamplingKernels | None = None) -> torch.Tensor:
    """The first token at which the running sum of a row's weights exceeds its share of the total.

    `uniform`: these shares, [rows] in float64.
    """
    num_rows, vocab_size = weights.shape
    segments = _segments(weights)
    if kernels is not None:
        return kernels.search(segments, segments.sum(dim=-1), uniform, vocab_size)
    segment_sums = segments.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    segment, rest = _search(segment_sums, uniform * segment_sums[:, -1])
    chosen = segments[torch.arange(num_rows, device=weights.device), segment]
    offset, _ = _search(chosen.cumsum(dim=-1, dtype=torch.float64), rest)
    return (segment * _SEGMENT + offset).clamp_(max=vocab_size - 1)  # a row of NaN ends behind the vocabulary


def totals(weights: torch.Tensor) -> torch.Tensor:
    """The sum of each row, in float64, as a column."""
    return _segments(weights).sum(dim=-1).double().sum(dim=-1, keepdim=True)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


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
