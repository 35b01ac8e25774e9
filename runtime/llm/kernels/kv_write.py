"""A step's keys and values, scattered into the paged KV cache by slot and, where it holds 8-bit floats, rounded to
them: a Triton kernel. Its reference is `GatherAttention.store`, with the same bits."""

import torch
import triton
import triton.language as tl

from models.fp8 import FP8_MAX
from runtime.llm.fp8 import SMALLEST_SCALE
from runtime.llm.kernels.paged_attention import num_columns

_ELEMENTS = 1024
"""Of keys that one program holds, unless one key has more."""


def write_kv(
    cache: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    slots: torch.Tensor,
    scales: torch.Tensor | None = None,
) -> None:
    """`first` and `second` are key and value, or whatever the two parts are, each [tokens, KV heads, size]; `cache` is
    [slots, KV heads, both side by side]. With `scales`, float32 [slots, KV heads, 2], it holds 8-bit floats.

    Nothing is written of a token whose slot is negative.
    """
    num_tokens, num_kv_heads, first_size = first.shape
    second_size = second.shape[2]
    assert first.stride(2) == second.stride(2) == 1
    columns = num_columns(max(first_size, second_size))
    num_rows, rows_at_once = num_tokens * num_kv_heads, max(1, _ELEMENTS // columns)
    _write[(triton.cdiv(num_rows, rows_at_once),)](
        cache,
        slots if scales is None else scales,  # never read where there are none
        first,
        second,
        slots,
        num_rows,
        first.stride(0),
        first.stride(1),
        second.stride(0),
        second.stride(1),
        NUM_KV_HEADS=num_kv_heads,
        FIRST_SIZE=first_size,
        SECOND_SIZE=second_size,
        ROWS=rows_at_once,
        COLUMNS=columns,
        IS_FP8=scales is not None,
        FP8_MAX=FP8_MAX,
        SMALLEST_SCALE=SMALLEST_SCALE,
        enable_fp_fusion=True,
    )


# Else it would be compiled once more for numbers of rows that are multiples of 16.
@triton.jit(do_not_specialize=["num_rows"])
def _write(
    cache: tl.tensor,
    scales: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    slots: tl.tensor,
    num_rows: tl.tensor,
    first_token_stride: tl.tensor,
    first_head_stride: tl.tensor,
    second_token_stride: tl.tensor,
    second_head_stride: tl.tensor,
    NUM_KV_HEADS: tl.constexpr,
    FIRST_SIZE: tl.constexpr,
    SECOND_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    IS_FP8: tl.constexpr,
    FP8_MAX: tl.constexpr,
    SMALLEST_SCALE: tl.constexpr,
) -> None:
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tokens = (rows // NUM_KV_HEADS).to(tl.int64)
    heads = rows % NUM_KV_HEADS
    slots_of_rows = tl.load(slots + tokens, mask=rows < num_rows, other=-1).to(tl.int64)
    is_row = slots_of_rows >= 0
    places = slots_of_rows * NUM_KV_HEADS + heads
    _write_part(
        cache, scales, first + tokens * first_token_stride + heads * first_head_stride, places, is_row,
        0, FIRST_SIZE, FIRST_SIZE + SECOND_SIZE, COLUMNS, IS_FP8, FP8_MAX, SMALLEST_SCALE,
    )  # fmt: skip
    _write_part(
        cache + FIRST_SIZE, scales, second + tokens * second_token_stride + heads * second_head_stride, places, is_row,
        1, SECOND_SIZE, FIRST_SIZE + SECOND_SIZE, COLUMNS, IS_FP8, FP8_MAX, SMALLEST_SCALE,
    )  # fmt: skip


@triton.jit
def _write_part(
    cache: tl.tensor,
    scales: tl.tensor,
    sources: tl.tensor,
    places: tl.tensor,
    is_row: tl.tensor,
    PART: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    IS_FP8: tl.constexpr,
    FP8_MAX: tl.constexpr,
    SMALLEST_SCALE: tl.constexpr,
) -> None:
    columns = tl.arange(0, COLUMNS)[None, :]
    is_element = is_row[:, None] & (columns < SIZE)
    numbers = tl.load(sources[:, None] + columns, mask=is_element, other=0.0)
    if IS_FP8:
        wide = numbers.to(tl.float32)
        scale = scale_of(tl.max(tl.abs(wide), 1), FP8_MAX, SMALLEST_SCALE)
        tl.store(scales + places * 2 + PART, scale, mask=is_row)
        numbers = narrowed(wide, scale[:, None], FP8_MAX)
    tl.store(cache + places[:, None] * WIDTH + columns, numbers, mask=is_element)


# Divisions are rounded as torch does it; what Triton divides by itself may be off by two places.
@triton.jit
def scale_of(largest: tl.tensor, FP8_MAX: tl.constexpr, SMALLEST_SCALE: tl.constexpr) -> tl.tensor:
    return tl.maximum(tl.div_rn(largest, tl.full(largest.shape, FP8_MAX, tl.float32)), SMALLEST_SCALE)


@triton.jit
def narrowed(wide: tl.tensor, scale: tl.tensor, FP8_MAX: tl.constexpr) -> tl.tensor:
    numbers = tl.div_rn(wide, tl.broadcast_to(scale, wide.shape))
    # What is not a number stays so: the request is broken, and must not look sound.
    numbers = tl.maximum(numbers, -FP8_MAX, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(numbers, FP8_MAX, propagate_nan=tl.PropagateNan.ALL).to(tl.float8e4nv)
