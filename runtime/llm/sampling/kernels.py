"""What a device may do for the sampler in ways of its own, with the results of the plain rules; which are in
`adjustments.py`, `truncation.py` and `draw.py`. On CUDA it is `llm/kernels/sampling.py`.
"""

from typing import Protocol

import torch


class SamplingKernels(Protocol):
    def forbid(self, logits: torch.Tensor, indices: torch.Tensor, masks: torch.Tensor) -> None:
        """Set to -inf what the bits of each of these rows' masks leave out; masks are as long as the vocabulary."""

    def truncate(self, weights: torch.Tensor, limits: torch.Tensor) -> None:
        """Set to 0 what top_k, then top_p, and min_p leave out. Weights are relative to the row's best, which is 1.

        `limits` [rows, 3]: top_k, 0 for none; top_p, above 1 for none; min_p.
        """

    def search(
        self, segments: torch.Tensor, segment_sums: torch.Tensor, uniform: torch.Tensor, vocab_size: int
    ) -> torch.Tensor:
        """The first token of each row at which the running sum of its weights exceeds its share of the total."""
