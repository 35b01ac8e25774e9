"""RMS and layer norm as one Triton kernel, with the addition that comes before: the sum is read and written once.

Its reference is `patches/operations.add_norm`; roundings are the same but for the order in which squares are summed.
Imports triton, so only what runs on CUDA may import it.
"""

import torch
import triton
import triton.language as tl

from runtime.llm.patches.operations import Scale

_COLUMNS_PER_WARP = 512
_WARPS_MAX = 16


def add_norm(
    hidden_states: torch.Tensor, addend: torch.Tensor | None, scale: Scale
) -> tuple[torch.Tensor, torch.Tensor]:
    normed = torch.empty_like(hidden_states)
    if normed.stride() != hidden_states.stride() or hidden_states.stride(-1) != 1:
        hidden_states = hidden_states.contiguous()
        normed = torch.empty_like(hidden_states)
    outer, inner = _row_dimensions(hidden_states)
    width = hidden_states.shape[-1]
    block = triton.next_power_of_2(width)
    total = hidden_states if addend is None else addend
    assert total.stride() == hidden_states.stride(), "both are read and written by the same offsets"
    if hidden_states.numel():
        _add_norm_kernel[(outer[0] * inner[0],)](
            hidden_states,
            total,
            scale.weight,
            scale.weight if scale.bias is None else scale.bias,
            normed,
            inner[0],
            outer[1],
            inner[1],
            scale.epsilon,
            WIDTH=width,
            BLOCK=block,
            HAS_ADDEND=addend is not None,
            IS_SHIFTED=scale.is_shifted,
            IS_CENTRED=scale.is_centred,
            HAS_BIAS=scale.bias is not None,
            num_warps=max(1, min(_WARPS_MAX, block // _COLUMNS_PER_WARP)),
            enable_fp_fusion=False,
        )
    return normed, total


def _row_dimensions(tensor: torch.Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """(size, stride) of the two dimensions that number the rows; heads of transformers' layers come transposed."""
    if tensor.is_contiguous():
        return (1, 0), (tensor.numel() // tensor.shape[-1], tensor.shape[-1])
    sizes = [(size, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
    rows = sizes[:-1] if tensor.shape[-1] > 1 else sizes
    assert len(rows) <= 2, "a batch is one flat sequence"
    padded = [*[(1, 0)] * (2 - len(rows)), *rows]
    return padded[0], padded[1]


@triton.jit(do_not_specialize=["num_inner"])
def _add_norm_kernel(
    hidden_states: tl.tensor,
    total: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    normed: tl.tensor,
    num_inner: tl.tensor,
    outer_stride: tl.tensor,
    inner_stride: tl.tensor,
    epsilon: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_ADDEND: tl.constexpr,
    IS_SHIFTED: tl.constexpr,
    IS_CENTRED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    is_inside = columns < WIDTH
    offsets = row // num_inner * outer_stride + row % num_inner * inner_stride + columns
    values = tl.load(hidden_states + offsets, mask=is_inside, other=0.0)
    dtype = values.dtype
    if HAS_ADDEND:
        addend = tl.load(total + offsets, mask=is_inside, other=0.0)
        values = (addend.to(tl.float32) + values.to(tl.float32)).to(dtype)
        tl.store(total + offsets, values, mask=is_inside)
    wide = values.to(tl.float32)
    if IS_CENTRED:
        wide = tl.where(is_inside, wide - tl.sum(wide, axis=0) / WIDTH, 0.0)
    scaled = wide * tl.math.rsqrt(tl.sum(wide * wide, axis=0) / WIDTH + epsilon)
    factor = tl.load(weight + columns, mask=is_inside, other=0.0).to(tl.float32)
    if IS_SHIFTED:
        result = scaled * (1.0 + factor)
    elif IS_CENTRED:
        result = scaled * factor
    else:
        result = scaled.to(dtype).to(tl.float32) * factor
    if HAS_BIAS:
        result += tl.load(bias + columns, mask=is_inside, other=0.0).to(tl.float32)
    tl.store(normed + offsets, result.to(dtype), mask=is_inside)
