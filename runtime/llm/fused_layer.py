"""The decoder layer of the Llama family, in half as many operations as transformers' own and with the same results.

At one token per step a 0.5 B model spends a quarter of its time between the matrix products. Here query, key and value
are one product, gate and up another; rotation turns query and key at once; everything works on [tokens, heads, size].
`fuse` swaps the layers of a finished model; a model that is not of the family stays as it is, and runs the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import silu

from models.info import AttentionInfo
from runtime.llm.forward_context import current_attention
from runtime.llm.linear import Linear

Release = Callable[[torch.Tensor], None]
Rotation = tuple[torch.Tensor, torch.Tensor]

SOURCES = {
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp_output": ("mlp.down_proj",),
}
"""Products of a FusedLayer, and the layers of transformers that each computes side by side."""

_FUSED = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}


def fuse(model: Any, shape: AttentionInfo, release: Release) -> bool:
    """Swap layers, norms and rotary embedding; says whether the model is of the family."""
    decoder = getattr(model, model.base_model_prefix)
    layers: nn.ModuleList | None = getattr(decoder, "layers", None)
    if layers is None or any(type(layer).__name__ not in _FUSED for layer in layers):
        return False
    for index, layer in enumerate(layers):
        layers[index] = FusedLayer(layer, shape, index, release)
    decoder.norm = RmsNorm(decoder.norm)
    decoder.rotary_emb = Rotary(decoder.rotary_emb)
    return True


class Rotary(nn.Module):
    """Cosines and signed sines for `_rotate`, broadcast over heads; the frequencies are transformers'."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self._source = source

    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> Rotation:
        cosine, sine = self._source(hidden_states, position_ids)
        sine[..., : sine.shape[-1] // 2].neg_()
        return cosine[0].unsqueeze(1), sine[0].unsqueeze(1)


class RmsNorm(nn.Module):
    def __init__(self, source: Any) -> None:
        super().__init__()
        self._weight: torch.Tensor = source.weight.detach()
        self._epsilon = float(source.variance_epsilon)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        wide = hidden_states.float()
        mean_square: torch.Tensor = torch.linalg.vecdot(wide, wide).div_(wide.shape[-1])
        scale = mean_square.add_(self._epsilon).rsqrt_().unsqueeze(-1)
        return (wide * scale).to(hidden_states.dtype).mul_(self._weight)


class FusedLayer(nn.Module):
    """Takes the weights of one decoder layer of transformers and its place."""

    def __init__(self, source: Any, shape: AttentionInfo, index: int, release: Release) -> None:
        super().__init__()
        attention, mlp = source.self_attn, source.mlp
        self._index = index
        self._scaling = float(attention.scaling)
        self._sliding_window = shape.window(index)
        self._num_query_heads = shape.num_heads
        self._num_rotated_heads = shape.num_heads + shape.num_kv_heads
        self._head_size = shape.head_size
        self.attention_norm = RmsNorm(source.input_layernorm)
        self.query_key_value = Linear([attention.q_proj, attention.k_proj, attention.v_proj], release)
        self.query_norm = RmsNorm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self.key_norm = RmsNorm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self.attention_output = Linear([attention.o_proj], release)
        self.mlp_norm = RmsNorm(source.post_attention_layernorm)
        self.gate_up = Linear([mlp.gate_proj, mlp.up_proj], release)
        self.mlp_output = Linear([mlp.down_proj], release)

    def forward(self, hidden_states: torch.Tensor, *, position_embeddings: Rotation, **ignored: object) -> torch.Tensor:
        """`hidden_states` are [1, tokens, hidden size]."""
        hidden_states = hidden_states + self._attend(self.attention_norm(hidden_states), position_embeddings)
        gate, up = self.gate_up(self.mlp_norm(hidden_states)).chunk(2, dim=-1)
        return hidden_states.add_(self.mlp_output(silu(gate).mul_(up)))

    def _attend(self, inputs: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        heads = self.query_key_value(inputs).view(inputs.shape[1], -1, self._head_size)
        if self.query_norm is not None and self.key_norm is not None:
            self._normalise(heads, self.query_norm, self.key_norm)
        rotated = _rotate(heads[:, : self._num_rotated_heads], rotation)
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

    def _normalise(self, heads: torch.Tensor, query_norm: RmsNorm, key_norm: RmsNorm) -> None:
        query = heads[:, : self._num_query_heads]
        key = heads[:, self._num_query_heads : self._num_rotated_heads]
        query.copy_(query_norm(query))
        key.copy_(key_norm(key))


def _rotate(heads: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Element j and its partner half a head away turn together; the sine of the first half is negative."""
    cosine, signed_sine = rotation
    partners = torch.roll(heads, heads.shape[-1] // 2, dims=-1)
    return (heads * cosine).add_(partners.mul_(signed_sine))
