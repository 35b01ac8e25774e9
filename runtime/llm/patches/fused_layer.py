"""The decoder layer of the Llama family, in half as many operations as transformers' own and with the same results.

StarCoder 2 is of it, with layer norms and an MLP without a gate.
At one token per step a 0.5 B model spends a quarter of its time between the matrix products. Here query, key and value
are one product, gate and up another; rotation turns query and key at once; everything works on [tokens, heads, size].
What a layer puts out is added by the norm that follows it, be it the next layer's: so sum and norm are one operation.
`fuse` swaps the layers of a finished model; a model that is not of the family stays as it is, and runs the same.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models.info import AttentionInfo
from runtime.llm.forward_context import Scoring, current_attention
from runtime.llm.fp8_linear import make_linear
from runtime.llm.linear import Release
from runtime.llm.patches.gated_mlp import GatedMlp, activation_of
from runtime.llm.patches.layer_operations import PLAIN, JoinedLayers, LayerOperations, LayerParts
from runtime.llm.patches.norm import FusedNorm, Unadded, scale_of
from runtime.llm.patches.operations import HeadNorms, Rotation, Scale
from runtime.llm.patches.sources import source_key

logger = logging.getLogger(__name__)

SOURCES = {
    "query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_output": ("self_attn.o_proj",),
}
"""Products of a FusedLayer, and the layers of transformers that each computes side by side."""

_FUSED = {
    "GemmaDecoderLayer", "LlamaDecoderLayer", "MistralDecoderLayer", "MixtralDecoderLayer", "Qwen2DecoderLayer",
    "Qwen2MoeDecoderLayer", "Qwen3DecoderLayer", "Qwen3MoeDecoderLayer", "Starcoder2DecoderLayer",
}  # fmt: skip
_LAYER_KEYS = {"d06e2eef7bb91426", "baa6394e79e45dae"}
"""Sources of an attention and an MLP each behind its norm, and each added to what came in; Llama's, and Mixtral's."""
_ATTENTION_KEYS = {"2e8f16ba887cb01f", "2ae8c5a78173031f", "7dc2418d1fb9138c", "5d9f28275f6b215f", "79e0cad41dfe98f1"}
"""Llama's, with a window Mistral's and Qwen 2's, with norms of heads and a window Qwen 3's, StarCoder 2's."""
_ROTATION_KEY = "1e7b61c120435dfb"


def fuse(model: Any, shape: AttentionInfo, release: Release, operations: LayerOperations = PLAIN) -> bool:
    """Swap layers, norms and rotary embedding; says whether the model is of the family."""
    decoder = getattr(model, model.base_model_prefix)
    layers: nn.ModuleList | None = getattr(decoder, "layers", None)
    if layers is None or any(type(layer).__name__ not in _FUSED for layer in layers):
        return False
    norm_scale = scale_of(decoder.norm)
    if norm_scale is None or not all(_is_known(layer) for layer in layers):
        name = type(layers[0]).__name__
        logger.warning("%s of this transformers is not known by its source and stays as slow as it is", name)
        return False
    fused = [FusedLayer(layer, shape, index, release, operations) for index, layer in enumerate(layers)]
    decoder.layers = FusedLayers(fused, operations)
    decoder.norm = FusedNorm(norm_scale, operations)
    decoder.rotary_emb = Rotary(decoder.rotary_emb)
    return True


def _is_known(layer: Any) -> bool:
    attention = layer.self_attn
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    norms += [attention.q_norm, attention.k_norm] if hasattr(attention, "q_norm") else []
    names = type(attention).forward.__globals__
    return (
        source_key(type(layer)) in _LAYER_KEYS
        and source_key(type(attention)) in _ATTENTION_KEYS
        and source_key(names["apply_rotary_pos_emb"], names["rotate_half"]) == _ROTATION_KEY
        and all(scale_of(norm) is not None for norm in norms)
    )


class Rotary(nn.Module):
    """Cosines and signed sines for `rotate`, broadcast over heads; the frequencies are transformers'."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self._source = source

    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> Rotation:
        cosine, sine = self._source(hidden_states, position_ids)
        sine[..., : sine.shape[-1] // 2].neg_()
        return cosine[0].unsqueeze(1), sine[0].unsqueeze(1)


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
        attention = source.self_attn
        self._index = index
        self._scoring = Scoring(float(attention.scaling), shape.window(index))
        self._num_query_heads = shape.num_heads
        self._num_rotated_heads = shape.num_heads + shape.num_kv_heads
        self._head_size = shape.head_size
        self._rotate = operations.rotate
        self._rotate_and_attend = operations.rotate_and_attend
        self.attention_norm = FusedNorm(_scale(source.input_layernorm), operations)
        self.query_key_value = make_linear([attention.q_proj, attention.k_proj, attention.v_proj], release)
        self._head_norms: HeadNorms | None = None
        if hasattr(attention, "q_norm"):
            self._head_norms = HeadNorms(_scale(attention.q_norm), _scale(attention.k_norm))
        self.attention_output = make_linear([attention.o_proj], release)
        self.mlp_norm = FusedNorm(_scale(source.post_attention_layernorm), operations)
        activation = activation_of(source.mlp)
        # Experts, and an MLP without a gate, stay what they are.
        self.mlp = source.mlp if activation is None else GatedMlp(source.mlp, activation, release, operations)
        self.parts: LayerParts | None = None
        """None: its MLP is of another kind."""
        if activation == "silu":
            self.parts = self._parts(source, shape)

    def forward(
        self, hidden_states: torch.Tensor | Unadded, *, position_embeddings: Rotation, **ignored: object
    ) -> Unadded:
        """`hidden_states` are [1, tokens, hidden size]."""
        normed, total = self.attention_norm.add(hidden_states)
        attended = self._attend(normed, position_embeddings)
        normed, total = self.mlp_norm.add(Unadded(total, attended))
        return Unadded(total, self.mlp(normed))

    def _parts(self, source: Any, shape: AttentionInfo) -> LayerParts:
        return LayerParts(
            self._index,
            _scale(source.input_layernorm),
            self.query_key_value,
            self._head_norms,
            self.attention_output,
            _scale(source.post_attention_layernorm),
            self.mlp.gate_up,
            self.mlp.mlp_output,
            shape.num_heads,
            shape.num_kv_heads,
            self._head_size,
            self._scoring,
        )

    def _attend(self, inputs: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        heads = self.query_key_value(inputs).view(inputs.shape[1], -1, self._head_size)
        output = None
        if self._rotate_and_attend is not None:
            output = self._rotate_and_attend(self._index, heads, rotation, self._head_norms, self._scoring)
        if output is None:
            output = self._attend_rotated(heads, rotation)
        attended: torch.Tensor = self.attention_output(output.view(1, inputs.shape[1], -1))
        return attended

    def _attend_rotated(self, heads: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        rotated = self._rotate(heads[:, : self._num_rotated_heads], rotation, self._num_query_heads, self._head_norms)
        return current_attention().attend(
            self._index,
            rotated[:, : self._num_query_heads],
            rotated[:, self._num_query_heads :],
            heads[:, self._num_rotated_heads :],
            self._scoring,
        )


class FusedLayers(nn.ModuleList):
    """All of a decoder's. Its loop over a slice of them goes over one that is them all."""

    def __init__(self, layers: Sequence[FusedLayer], operations: LayerOperations) -> None:
        super().__init__(layers)
        parts = [layer.parts for layer in layers if layer.parts is not None]
        self._joined: JoinedLayers | None = None
        if operations.join_layers is not None and len(parts) == len(layers):
            self._joined = operations.join_layers(parts)

    def __getitem__(self, index: Any) -> Any:
        return [self] if isinstance(index, slice) else super().__getitem__(index)

    def forward(self, hidden_states: torch.Tensor, *, position_embeddings: Rotation, **ignored: object) -> Unadded:
        """As of one layer."""
        computed = None
        if self._joined is not None:
            computed = self._joined.compute(hidden_states, position_embeddings)
        if computed is not None:
            return Unadded(*computed)
        states: torch.Tensor | Unadded = hidden_states
        for layer in self:
            states = layer(states, position_embeddings=position_embeddings)
        assert isinstance(states, Unadded), "there is a layer"
        return states


def _scale(norm: Any) -> Scale:
    scale = scale_of(norm)
    assert scale is not None, "fuse has looked at it"
    return scale
