"""The decoder layer of the Llama family, in half as many operations as transformers' own and with the same results.

At one token per step a 0.5 B model spends a quarter of its time between the matrix products. Here query, key and value
are one product, gate and up another; rotation turns query and key at once; everything works on [tokens, heads, size].
What a layer puts out is added by the norm that follows it, be it the next layer's: so sum and norm are one operation.
`fuse` swaps the layers of a finished model; a model that is not of the family stays as it is, and runs the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from models.info import AttentionInfo
from runtime.llm.forward_context import current_attention
from runtime.llm.fp8_linear import make_linear
from runtime.llm.patches.operations import PLAIN, HeadNorms, LayerOperations, Rotation, Scale

Release = Callable[[torch.Tensor], None]

SOURCES = {
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp_output": ("mlp.down_proj",),
}
"""Products of a FusedLayer, and the layers of transformers that each computes side by side."""

_FUSED = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}


class Unadded(NamedTuple):
    """Hidden states as they go from layer to layer: the norm that comes next adds the two."""

    hidden_states: torch.Tensor
    addend: torch.Tensor


def fuse(model: Any, shape: AttentionInfo, release: Release, operations: LayerOperations = PLAIN) -> bool:
    """Swap layers, norms and rotary embedding; says whether the model is of the family."""
    decoder = getattr(model, model.base_model_prefix)
    layers: nn.ModuleList | None = getattr(decoder, "layers", None)
    if layers is None or any(type(layer).__name__ not in _FUSED for layer in layers):
        return False
    for index, layer in enumerate(layers):
        layers[index] = FusedLayer(layer, shape, index, release, operations)
    decoder.norm = RmsNorm(decoder.norm, operations)
    decoder.rotary_emb = Rotary(decoder.rotary_emb)
    return True


class Rotary(nn.Module):
    """Cosines and signed sines for `rotate`, broadcast over heads; the frequencies are transformers'."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self._source = source

    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> Rotation:
        cosine, sine = self._source(hidden_states, position_ids)
        sine[..., : sine.shape[-1] // 2].neg_()
        return cosine[0].unsqueeze(1), sine[0].unsqueeze(1)


class RmsNorm(nn.Module):
    def __init__(self, source: Any, operations: LayerOperations = PLAIN) -> None:
        super().__init__()
        self._scale = scale_of(source)
        self._add_rms_norm = operations.add_rms_norm

    def forward(self, hidden_states: torch.Tensor | Unadded) -> torch.Tensor:
        return self.add(hidden_states)[0]

    def add(self, hidden_states: torch.Tensor | Unadded) -> tuple[torch.Tensor, torch.Tensor]:
        """The normed sum, and the sum."""
        if isinstance(hidden_states, Unadded):
            return self._add_rms_norm(*hidden_states, self._scale)
        return self._add_rms_norm(hidden_states, None, self._scale)


class FusedLayer(nn.Module):
    """Takes the weights of one decoder layer of transformers and its place."""

    def __init__(
        self,
        source: Any,
        shape: AttentionInfo,
        index: int,
        release: Release,
        operations: LayerOperations = PLAIN,
    ) -> None:
        super().__init__()
        attention, mlp = source.self_attn, source.mlp
        self._index = index
        self._scaling = float(attention.scaling)
        self._sliding_window = shape.window(index)
        self._num_query_heads = shape.num_heads
        self._num_rotated_heads = shape.num_heads + shape.num_kv_heads
        self._head_size = shape.head_size
        self._operations = operations
        self.attention_norm = RmsNorm(source.input_layernorm, operations)
        self.query_key_value = make_linear([attention.q_proj, attention.k_proj, attention.v_proj], release)
        self._head_norms: HeadNorms | None = None
        if hasattr(attention, "q_norm"):
            self._head_norms = HeadNorms(scale_of(attention.q_norm), scale_of(attention.k_norm))
        self.attention_output = make_linear([attention.o_proj], release)
        self.mlp_norm = RmsNorm(source.post_attention_layernorm, operations)
        self.gate_up = make_linear([mlp.gate_proj, mlp.up_proj], release)
        self.mlp_output = make_linear([mlp.down_proj], release)

    def forward(
        self, hidden_states: torch.Tensor | Unadded, *, position_embeddings: Rotation, **ignored: object
    ) -> Unadded:
        """`hidden_states` are [1, tokens, hidden size]."""
        normed, total = self.attention_norm.add(hidden_states)
        attended = self._attend(normed, position_embeddings)
        normed, total = self.mlp_norm.add(Unadded(total, attended))
        return Unadded(total, self.mlp_output(self._operations.gate(self.gate_up(normed), "silu")))

    def _attend(self, inputs: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        heads = self.query_key_value(inputs).view(inputs.shape[1], -1, self._head_size)
        rotated = self._operations.rotate(
            heads[:, : self._num_rotated_heads], rotation, self._num_query_heads, self._head_norms
        )
        output = current_attention().attend(
            self._index,
            rotated[:, : self._num_query_heads],
            rotated[:, self._num_query_heads :],
            heads[:, self._num_rotated_heads :],
            scaling=self._scaling,
            sliding_window=self._sliding_window,
        )
        attended: torch.Tensor = self.attention_output(output.view(1, inputs.shape[1], -1))
        return attended


def scale_of(norm: Any) -> Scale:
    """Of an RMS norm of transformers that multiplies by its weight."""
    return Scale(norm.weight.detach(), float(norm.variance_epsilon))
