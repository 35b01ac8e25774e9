"""The gated MLP in two matrix products and one operation; and how one of transformers is recognised."""

from typing import Any

import torch
from torch import nn

from runtime.llm.fp8_linear import make_linear
from runtime.llm.linear import Release
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.operations import Activation
from runtime.llm.patches.sources import source_key

_DOWN_OF_GATED_UP = "7d2027d4464e3e71"

ACTIVATIONS: dict[str, Activation] = {
    "SiLUActivation": "silu",
    "SiLU": "silu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
}
"""By the name of their class in transformers or torch."""

MLP_SOURCES = {"gate_up": ("gate_proj", "up_proj"), "mlp_output": ("down_proj",)}
"""Products of a GatedMlp, and the layers of transformers that each computes side by side."""


class GatedMlp(nn.Module):
    """Takes the weights of an MLP of transformers that `activation_of` knows."""

    def __init__(
        self, source: Any, activation: Activation, release: Release, operations: LayerOperations = PLAIN
    ) -> None:
        super().__init__()
        self.gate_up = make_linear([source.gate_proj, source.up_proj], release)
        self.mlp_output = make_linear([source.down_proj], release)
        self._activation = activation
        self._gate = operations.gate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.mlp_output(self._gate(self.gate_up(hidden_states), self._activation))
        return output


def activation_of(mlp: Any) -> Activation | None:
    """Of a gated MLP of transformers; None: it is another kind of module, or its source is not known."""
    if source_key(type(mlp)) != _DOWN_OF_GATED_UP:
        return None
    return ACTIVATIONS.get(type(mlp.act_fn).__name__)
