"""What a device may do for the sampler in ways of its own, with the results of the plain rules; which are in
`adjustments.py`, `truncation.py` and `draw.py`. On CUDA it is `llm/kernels/sampling.py`.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.submission import SamplingParams


class SamplingKernels(Protocol):
    def forbid(self, logits: torch.Tensor, indices: list[int], masks: NDArray[np.uint8]) -> None:
        """Set to -inf what the bits of each of these rows' masks leave out; masks are as long as the vocabulary."""

    def truncate(self, weights: torch.Tensor, params: list[SamplingParams]) -> None:
        """Set to 0 what top_k, then top_p, and min_p leave out. Weights are relative to the row's best, which is 1."""

    def search(
        self, segments: torch.Tensor, segment_sums: torch.Tensor, uniform: torch.Tensor, vocab_size: int
    ) -> torch.Tensor:
        """The first token of each row at which the running sum of its weights exceeds its share of the total."""
