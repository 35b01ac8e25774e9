"""The numbers in some rows' rules, brought to the device together: one copy, for which nobody waits.

Which rows a rule is for stays on the host, so that none is applied where it changes nothing.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from runtime.llm.sampling.draw import uniforms
from runtime.llm.sampling.mirostat import current_mu
from runtime.llm.sampling.rows import SampledRow
from runtime.llm.transfer import to_device
from runtime.submission import SamplingParams

_NEUTRAL = SamplingParams()
_NO_TOP_P = 2.0
"""A top_p below 1 may become 1 in float32, and is still one."""


class Columns:
    """Of rows that are drawn, none of them greedy, for `logits` [rows, vocabulary]."""

    def __init__(self, logits: torch.Tensor, rows: Sequence[SampledRow]) -> None:
        vocab_size = logits.shape[1]
        params = [_NEUTRAL if row.is_mirostat else row.params for row in rows]  # mirostat cuts off by itself
        self.steered = [index for index, row in enumerate(rows) if row.is_mirostat]
        self.typical = [index for index, p in enumerate(params) if p.typical_p < 1]
        self.truncated = [index for index, p in enumerate(params) if p.top_k > 0 or p.top_p < 1]
        self.has_min_p = any(p.min_p > 0 for p in params)
        numbers = [
            uniforms([row.seed for row in rows], [row.position for row in rows]),
            [min(math.log2(math.e) / row.params.temperature, 1e30) for row in rows],
            [p.top_k if 0 < p.top_k < vocab_size else 0 for p in params],
            [p.top_p if p.top_p < 1 else _NO_TOP_P for p in params],
            [p.min_p for p in params],
            [p.typical_p for p in params],
            [current_mu(row) if row.is_mirostat else 0.0 for row in rows],
        ]
        self._table = to_device(np.array(numbers, dtype=np.float64), logits.device)

    @property
    def uniform(self) -> torch.Tensor:
        """[rows], float64: the number in [0, 1) that each is drawn by."""
        return self._table[0]

    @property
    def exponents(self) -> torch.Tensor:
        """[rows, 1]: what a logit is multiplied by for its weight to be a power of 2."""
        return self._table[1].float().unsqueeze(1)

    @property
    def limits(self) -> torch.Tensor:
        """[rows, 3], contiguous: top_k, 0 for none; top_p, above 1 for none; min_p."""
        return self._table[2:5].float().T.contiguous()

    @property
    def top_k(self) -> torch.Tensor:
        """[rows]; 0: all."""
        return self._table[2].long()

    @property
    def top_p(self) -> torch.Tensor:
        """[rows]; above 1: all."""
        return self._table[3].float()

    @property
    def min_p(self) -> torch.Tensor:
        """[rows, 1]."""
        return self._table[4].float().unsqueeze(1)

    @property
    def typical_p(self) -> torch.Tensor:
        """[rows], float64."""
        return self._table[5]

    @property
    def mu(self) -> torch.Tensor:
        """[rows, 1], float64; of rows with mirostat."""
        return self._table[6].unsqueeze(1)
