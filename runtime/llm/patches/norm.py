"""A norm in one operation, with the addition that comes before it; and how one of transformers is recognised."""

from typing import Any, NamedTuple

import torch
from torch import nn

from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.operations import Scale
from runtime.llm.patches.sources import source_key

_SCALED = "7f6be55b177fa1d7"
"""weight × normed, rounded before the product: Llama's, and most others'."""
_SHIFTED_SCALED = "297046346f3a5a84"
"""(1 + weight) × normed, rounded after it: Gemma's."""


class Unadded(NamedTuple):
    """Hidden states as they go from layer to layer: the norm that comes next adds the two."""

    hidden_states: torch.Tensor
    addend: torch.Tensor


class FusedNorm(nn.Module):
    def __init__(self, scale: Scale, operations: LayerOperations = PLAIN) -> None:
        super().__init__()
        self._scale = scale
        self._add_norm = operations.add_norm

    def forward(self, hidden_states: torch.Tensor | Unadded) -> torch.Tensor:
        return self.add(hidden_states)[0]

    def add(self, hidden_states: torch.Tensor | Unadded) -> tuple[torch.Tensor, torch.Tensor]:
        """The normed sum, and the sum."""
        if isinstance(hidden_states, Unadded):
            return self._add_norm(*hidden_states, self._scale)
        return self._add_norm(hidden_states, None, self._scale)


def scale_of(norm: Any) -> Scale | None:
    """Of a norm over the last dimension; None: it is of another kind, or its source is not known."""
    if type(norm) is nn.LayerNorm:
        if norm.weight is None or len(norm.normalized_shape) > 1:
            return None
        bias = None if norm.bias is None else norm.bias.detach()
        return Scale(norm.weight.detach(), norm.eps, is_centred=True, bias=bias)
    key = source_key(type(norm))
    if key == _SCALED:
        return Scale(norm.weight.detach(), float(norm.variance_epsilon))
    if key == _SHIFTED_SCALED:
        return Scale(norm.weight.detach(), float(norm.eps), is_shifted=True)
    return None
