"""Who computes what stands between a layer's products: each operation by itself, or all of it in one call."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch

from runtime.llm.forward_context import Scoring
from runtime.llm.linear import Linear
from runtime.llm.patches.operations import (
    AddNorm,
    Gate,
    HeadNorms,
    MixExperts,
    Rotate,
    Rotation,
    Scale,
    add_norm,
    gate,
    mix_experts,
    rotate,
)


class LayerParts(NamedTuple):
    """A decoder layer of the Llama family."""

    layer: int
    """Which of the model's."""
    attention_norm: Scale
    query_key_value: Linear
    head_norms: HeadNorms | None
    attention_output: Linear
    mlp_norm: Scale
    gate_up: Linear
    mlp_output: Linear
    """Of what silu(gate) × up makes."""
    num_query_heads: int
    num_kv_heads: int
    head_size: int
    scoring: Scoring


class JoinedLayers(Protocol):
    """All decoder layers of a model, one after the other."""

    def compute(self, hidden_states: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, torch.Tensor] | None:
        """[1, tokens, hidden size], cosines and sines → hidden states, and what is still to be added to them; None, and
        nothing has happened, where this step is not one for it. Overwrites the hidden states. Rows that nobody asks for
        are of no meaning then."""


JoinLayers = Callable[[Sequence[LayerParts]], JoinedLayers | None]
"""None where these cannot be joined."""


RotateAndAttend = Callable[[int, torch.Tensor, Rotation, HeadNorms | None, Scoring], torch.Tensor | None]
"""(layer, query, key and value heads of each token side by side, rotation, norms, scoring) → as `StepAttention.attend`;
None, and nothing has happened, where this step is not one for it. Overwrites the heads."""


class LayerOperations(NamedTuple):
    add_norm: AddNorm
    gate: Gate
    rotate: Rotate
    mix_experts: MixExperts
    join_layers: JoinLayers | None = None
    """For most steps, in place of the others."""
    rotate_and_attend: RotateAndAttend | None = None
    """For most steps, in place of rotating and attending, since keys are written anyway."""


PLAIN = LayerOperations(add_norm, gate, rotate, mix_experts)
