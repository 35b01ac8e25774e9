"""A step's keys and values, scattered into the paged KV cache by slot: a Triton kernel."""

import torch
import triton
import triton.language as tl

from runtime.llm.kernels.paged_attention import num_columns

_ELEMENTS = 1024
"""Of keys that one program holds, unless one key has more."""


def write_kv(cache: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slots: torch.Tensor) -> None:
    """`key` and `value` are [tokens, KV heads, size], `cache` is [slots, KV heads, key and value side by side]."""
    num_tokens, num_kv_heads, head_size = key.shape
    value_size = value.shape[2]
    assert key.stride(2) == value.stride(2) == 1
    columns = num_columns(max(head_size, value_size))
    num_rows, rows_at_once = num_tokens * num_kv_heads, max(1, _ELEMENTS // columns)
    _write[(triton.cdiv(num_rows, rows_at_once),)](
        cache,
        key,
        value,
        slots,
        num_rows,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        NUM_KV_HEADS=num_kv_heads,
        HEAD_SIZE=head_size,
        VALUE_SIZE=value_size,
        ROWS=rows_at_once,
        COLUMNS=columns,
        enable_fp_fusion=True,
    )


# Else it would be compiled once more for numbers of rows that are multiples of 16.
@triton.jit(do_not_specialize=["num_rows"])
def _write(
    cache: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    slots: tl.tensor,
    num_rows: tl.tensor,
    key_token_stride: tl.tensor,
    key_head_stride: tl.tensor,
    value_token_stride: tl.tensor,
    value_head_stride: tl.tensor,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)[None, :]
    is_row = rows < num_rows
    tokens = (rows // NUM_KV_HEADS).to(tl.int64)
    heads = rows % NUM_KV_HEADS
    slots_of_rows = tl.load(slots + tokens, mask=is_row, other=0).to(tl.int64)
    places = cache + (slots_of_rows * NUM_KV_HEADS + heads)[:, None] * (HEAD_SIZE + VALUE_SIZE) + columns
    is_key = is_row[:, None] & (columns < HEAD_SIZE)
    keys = tl.load(key + (tokens * key_token_stride + heads * key_head_stride)[:, None] + columns, mask=is_key)
    tl.store(places, keys, mask=is_key)
    is_value = is_row[:, None] & (columns < VALUE_SIZE)
    values = tl.load(
        value + (tokens * value_token_stride + heads * value_head_stride)[:, None] + columns, mask=is_value
    )
    tl.store(places + HEAD_SIZE, values, mask=is_value)
