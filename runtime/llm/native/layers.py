"""All decoder layers of a model in one call of C, where no row of a step has an addon.

Between the products of a step with few rows torch's operations, and the waking of threads for each, take as long as the
products themselves.
"""

import ctypes
from collections.abc import Sequence
from ctypes import byref
from itertools import accumulate

import torch

from runtime.llm.attention_native import NativeStep
from runtime.llm.forward_context import current_asked_rows, current_attention
from runtime.llm.linear import Linear
from runtime.llm.native import library
from runtime.llm.native.structures import describe_heads, point_rotation, point_scale
from runtime.llm.patches.layer_operations import LayerParts
from runtime.llm.patches.operations import Rotation

_COLUMNS_AT_ONCE = 64
"""Of gate, with the same of up."""


def join_layers(layers: Sequence[LayerParts]) -> "NativeLayers | None":
    """None where a layer's gate is not of whole blocks."""
    widths = [sum(parts.gate_up.output_sizes) // 2 for parts in layers]
    return None if any(width % _COLUMNS_AT_ONCE for width in widths) else NativeLayers(layers)


class NativeLayers:
    """Implements `patches.layer_operations.JoinedLayers` from when their weights are packed."""

    def __init__(self, layers: Sequence[LayerParts]) -> None:
        self._parts = layers
        self._linears = [linear for parts in layers for linear in _linears(parts)]
        self._layers: ctypes.Array[library.Layer] | None = None
        self._widths: list[int] = []
        """Of what comes between a layer's parts."""

    def compute(self, hidden_states: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, torch.Tensor] | None:
        step = current_attention()
        num_tokens = hidden_states.shape[1]
        if not isinstance(step, NativeStep):
            return None
        if any(linear._forward_hooks for linear in self._linears):  # addons, or sums over several processes
            return None
        if (layers := self._layers or self._point()) is None:
            return None
        hidden_states = hidden_states.contiguous()
        cosine, signed_sine = rotation
        rotation = cosine.contiguous(), signed_sine.contiguous()
        addend = torch.empty_like(hidden_states)
        *offsets, size = accumulate((2 * num_tokens * width for width in self._widths), initial=0)
        memory = step.memory(size)
        asked = step.ask(current_asked_rows())
        library.functions().compute_layers(
            layers,
            (ctypes.c_void_p * len(self._parts))(*(step.cache(parts.layer).data_ptr() for parts in self._parts)),
            len(self._parts),
            byref(step.batch),
            None if asked is None else byref(asked),
            byref(point_rotation(rotation)),
            byref(library.Memory(*(memory.data_ptr() + offset for offset in offsets))),
            hidden_states.data_ptr(),
            addend.data_ptr(),
        )
        return hidden_states, addend

    def _point(self) -> "ctypes.Array[library.Layer] | None":
        """None while a weight is not packed, or is packed in a way that C does not read."""
        found = [_point(parts) for parts in self._parts]
        layers = [layer for layer in found if layer is not None]
        if len(layers) < len(found):
            return None
        first = layers[0]  # in a model's others sizes are the same
        self._widths = [
            first.query_key_value.num_inputs,
            first.query_key_value.num_outputs,
            first.attention_output.num_inputs,
            first.mlp_output.num_inputs,
        ]
        self._layers = (library.Layer * len(layers))(*layers)
        return self._layers


def _linears(parts: LayerParts) -> list[Linear]:
    return [parts.query_key_value, parts.attention_output, parts.gate_up, parts.mlp_output]


def _point(parts: LayerParts) -> library.Layer | None:
    products = [linear.native_product for linear in _linears(parts)]
    linears = [product.linear for product in products if product is not None]
    if len(linears) < len(products):
        return None
    query_norm, key_norm = parts.head_norms or (None, None)
    scales = [parts.attention_norm, query_norm, key_norm, parts.mlp_norm]
    heads = describe_heads(parts.num_query_heads, parts.num_kv_heads, parts.head_size, parts.scoring)
    return library.Layer(*map(point_scale, scales), *linears, heads)
