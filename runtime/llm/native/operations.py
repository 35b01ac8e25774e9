"""The operations of a layer in C, for bfloat16 on a CPU, each with the roundings of its reference in plain torch.

What is of another dtype, or lies in memory in another way, is computed by the reference.
"""

from ctypes import byref

import torch

from runtime.llm.native import library
from runtime.llm.native.layers import join_layers
from runtime.llm.native.structures import point_rotation, point_scale
from runtime.llm.patches import operations as plain
from runtime.llm.patches.layer_operations import LayerOperations
from runtime.llm.patches.operations import Activation, HeadNorms, Rotation, Scale


def add_norm(
    hidden_states: torch.Tensor, addend: torch.Tensor | None, scale: Scale
) -> tuple[torch.Tensor, torch.Tensor]:
    total, other = (hidden_states, None) if addend is None else (addend, hidden_states)
    if scale.is_centred or not _are_dense(*(each for each in (total, other, scale.weight) if each is not None)):
        return plain.add_norm(hidden_states, addend, scale)
    normed = torch.empty_like(total)
    size = total.shape[-1]
    library.functions().add_norm_rows(
        total.data_ptr(),
        None if other is None else other.data_ptr(),
        normed.data_ptr(),
        total.numel() // size,
        size,
        byref(point_scale(scale)),
    )
    return normed, total


def gate(gate_up: torch.Tensor, activation: Activation) -> torch.Tensor:
    if activation != "silu" or not _are_dense(gate_up):
        return plain.gate(gate_up, activation)
    size = gate_up.shape[-1] // 2
    outputs = gate_up.new_empty((*gate_up.shape[:-1], size))
    library.functions().gate_rows(gate_up.data_ptr(), outputs.data_ptr(), outputs.numel() // size, size)
    return outputs


def rotate(
    heads: torch.Tensor, rotation: Rotation, num_query_heads: int, norms: HeadNorms | None = None
) -> torch.Tensor:
    num_tokens, num_heads, size = heads.shape
    weights = [] if norms is None else [scale.weight for scale in norms]
    if not _are_dense(heads[0], *rotation, *weights):
        return plain.rotate(heads, rotation, num_query_heads, norms)
    scales = [library.Scale()] * 2 if norms is None else [point_scale(scale) for scale in norms]
    library.functions().rotate_rows(
        heads.data_ptr(),
        heads.stride(0),
        num_tokens,
        num_query_heads,
        num_heads,
        size,
        byref(point_rotation(rotation)),
        *(byref(scale) for scale in scales),
    )
    return heads


def _are_dense(*tensors: torch.Tensor) -> bool:
    return all(tensor.dtype is torch.bfloat16 and tensor.is_contiguous() for tensor in tensors)


NATIVE = LayerOperations(add_norm, gate, rotate, plain.mix_experts, join_layers)
