"""The gate of an MLP as one Triton kernel: activation(gate) × up, where gate and up lie side by side.

Its reference is `layer_operations.gate`, with the same roundings. Imports triton, so only what runs on CUDA may import
it.
"""

import torch
import triton
import triton.language as tl

from runtime.llm.patches.operations import Activation

_BLOCK = 1024


def gate(gate_up: torch.Tensor, activation: Activation) -> torch.Tensor:
    assert gate_up.is_contiguous()
    width = gate_up.shape[-1] // 2
    gated = gate_up.new_empty((*gate_up.shape[:-1], width))
    num_rows = gated.numel() // width
    if num_rows:
        _gate_kernel[(num_rows, triton.cdiv(width, _BLOCK))](
            gate_up, gated, WIDTH=width, ACTIVATION=activation, BLOCK=_BLOCK, enable_fp_fusion=False
        )
    return gated


@triton.jit
def _gate_kernel(
    gate_up: tl.tensor, gated: tl.tensor, WIDTH: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_inside = columns < WIDTH
    first = gate_up + row * 2 * WIDTH + columns
    values = tl.load(first, mask=is_inside, other=0.0)
    dtype = values.dtype
    active = activated(values.to(tl.float32), ACTIVATION)
    up = tl.load(first + WIDTH, mask=is_inside, other=0.0)
    result = active.to(dtype).to(tl.float32) * up.to(tl.float32)
    tl.store(gated + row * WIDTH + columns, result.to(dtype), mask=is_inside)


@triton.jit
def activated(x: tl.tensor, ACTIVATION: tl.constexpr) -> tl.tensor:
    """Of float32 numbers."""
    if ACTIVATION == "silu":
        active = x / (1.0 + tl.exp(-x))
    elif ACTIVATION == "gelu_tanh":
        # 0.5 (1 + tanh y) is the logistic function of 2 y.
        active = x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    else:
        active = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    return active
