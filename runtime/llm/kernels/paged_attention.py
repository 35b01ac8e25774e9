"""Attention over the paged KV cache as Triton kernels: one attends, one merges what segments of the keys gave.

Which program computes what stands in tables that `attention_work.py` makes on the host. A program takes some tokens
of one request and the query heads that share one KV head as the rows of a tile, and visits that request's keys a tile
at a time; nothing that it computes depends on another program. The cache holds [slots, KV heads, key and value].
"""

import math

import torch
import triton
import triton.language as tl

from runtime.llm.attention_work import ITEM_FIELDS, MERGE_FIELDS, SEGMENTS_MAX, Tiling


class Partials:
    """What segments of the keys gave, before they are merged, in float32."""

    def __init__(self, num_partials: int, num_heads: int, value_size: int, device: torch.device) -> None:
        self.values = torch.empty(num_partials, num_heads, value_size, dtype=torch.float32, device=device)
        """Weighed, but not divided by the sum of the weights."""
        self.weights = torch.empty(num_partials, num_heads, 2, dtype=torch.float32, device=device)
        """The largest score, times log2(e), and the sum of the weights relative to it."""


def attend_paged(
    output: torch.Tensor,
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    items: torch.Tensor,
    partials: Partials,
    *,
    block_size: int,
    scaling: float,
    window: int | None,
    softcap: float | None,
    tiling: Tiling,
) -> None:
    """Fill the rows of `output` that the items name, or their partials. `output` is contiguous, a query's head too."""
    num_heads, head_size = query.shape[1:]
    value_size = output.shape[2]
    assert query.stride(2) == 1
    scale = scaling * math.log2(math.e) if softcap is None else scaling / softcap
    _attend[(items.shape[0], cache.shape[1])](
        output,
        query,
        cache,
        block_tables,
        items,
        partials.values,
        partials.weights,
        scale,
        query.stride(0),
        query.stride(1),
        NUM_HEADS=num_heads,
        NUM_KV_HEADS=cache.shape[1],
        HEAD_SIZE=head_size,
        VALUE_SIZE=value_size,
        BLOCK_SIZE=block_size,
        WINDOW=window or 0,
        CAP=0.0 if softcap is None else softcap * math.log2(math.e),
        FIELDS=ITEM_FIELDS,
        ROWS=tiling.num_rows,
        KEYS=tiling.num_keys,
        HEAD_COLUMNS=num_columns(head_size),
        VALUE_COLUMNS=num_columns(value_size),
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
        enable_fp_fusion=True,  # said aloud, because what Triton does by itself will change
    )


def merge_partials(output: torch.Tensor, partials: Partials, merges: torch.Tensor) -> None:
    """Fill the rows of `output` that the merges name."""
    num_heads, value_size = output.shape[1:]
    _merge[(merges.shape[0], num_heads)](
        output,
        partials.values,
        partials.weights,
        merges,
        NUM_HEADS=num_heads,
        VALUE_SIZE=value_size,
        FIELDS=MERGE_FIELDS,
        SEGMENTS=SEGMENTS_MAX,
        COLUMNS=num_columns(value_size),
        enable_fp_fusion=True,
    )


def num_columns(size: int) -> int:
    """Of a tile that holds vectors of this size: Triton's are powers of two, and its products 16 wide at least."""
    return max(16, int(triton.next_power_of_2(size)))


@triton.jit
def _attend(
    output: tl.tensor,
    query: tl.tensor,
    cache: tl.tensor,
    block_tables: tl.tensor,
    items: tl.tensor,
    partial_values: tl.tensor,
    partial_weights: tl.tensor,
    scale: tl.tensor,
    query_token_stride: tl.tensor,
    query_head_stride: tl.tensor,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD_COLUMNS: tl.constexpr,
    VALUE_COLUMNS: tl.constexpr,
) -> None:
    SHARING: tl.constexpr = NUM_HEADS // NUM_KV_HEADS
    item = items + tl.program_id(0) * FIELDS
    kv_head = tl.program_id(1)
    position = tl.load(item + 2)
    first = tl.load(item + 3)
    stop = tl.load(item + 4)
    table = block_tables + tl.load(item + 5)
    rows = tl.arange(0, ROWS)
    tokens = (tl.load(item) + rows // SHARING).to(tl.int64)
    heads = kv_head * SHARING + rows % SHARING
    is_row = rows < tl.load(item + 1) * SHARING
    positions = position + rows // SHARING
    columns = tl.arange(0, HEAD_COLUMNS)
    places = (tokens * query_token_stride + heads * query_head_stride)[:, None] + columns[None, :]
    queries = tl.load(query + places, mask=is_row[:, None] & (columns < HEAD_SIZE)[None, :], other=0.0)
    own = cache + kv_head * (HEAD_SIZE + VALUE_SIZE)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    values = tl.zeros([ROWS, VALUE_COLUMNS], tl.float32)
    if WINDOW == 0:
        # Every row sees the keys up to the first row's position: whole tiles of those need no mask.
        middle = first + tl.maximum(tl.minimum(position + 1, stop) - first, 0) // KEYS * KEYS
        values, top, total = _visit(
            values, top, total, queries, positions, scale, own, table, first, middle,
            NUM_KV_HEADS, HEAD_SIZE, VALUE_SIZE, BLOCK_SIZE, WINDOW, CAP, KEYS, False,
        )  # fmt: skip
        first = middle
    values, top, total = _visit(
        values, top, total, queries, positions, scale, own, table, first, stop,
        NUM_KV_HEADS, HEAD_SIZE, VALUE_SIZE, BLOCK_SIZE, WINDOW, CAP, KEYS, True,
    )  # fmt: skip
    _store(
        values, top, total, output, partial_values, partial_weights, item, tokens, heads, is_row, NUM_HEADS, VALUE_SIZE
    )  # fmt: skip


@triton.jit
def _visit(
    values: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    queries: tl.tensor,
    positions: tl.tensor,
    scale: tl.tensor,
    cache: tl.tensor,
    table: tl.tensor,
    first: tl.tensor,
    stop: tl.tensor,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    KEYS: tl.constexpr,
    IS_MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Keys from `first` to `stop`, folded into what the rows have weighed so far; a tile that hides all changes none"""
    columns = tl.arange(0, queries.shape[1])
    value_columns = tl.arange(0, values.shape[1])
    for start in range(first, stop, KEYS):
        keys = start + tl.arange(0, KEYS)
        is_key = keys < stop
        blocks = tl.load(table + keys // BLOCK_SIZE, mask=is_key, other=0).to(tl.int64)
        slots = (blocks * BLOCK_SIZE + keys % BLOCK_SIZE) * (NUM_KV_HEADS * (HEAD_SIZE + VALUE_SIZE))
        key_tile = tl.load(
            cache + slots[None, :] + columns[:, None],
            mask=is_key[None, :] & (columns < HEAD_SIZE)[:, None],
            other=0.0,
        )
        scores = tl.dot(queries, key_tile, input_precision="ieee") * scale
        if CAP > 0:
            scores = _tanh(scores) * CAP
        if IS_MASKED:
            is_visible = is_key[None, :] & (keys[None, :] <= positions[:, None])
            if WINDOW > 0:
                is_visible = is_visible & (keys[None, :] > positions[:, None] - WINDOW)
            scores = tl.where(is_visible, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = tl.exp2(scores - base[:, None])
        decay = tl.exp2(top - base)
        value_tile = tl.load(
            cache + HEAD_SIZE + slots[:, None] + value_columns[None, :],
            mask=is_key[:, None] & (value_columns < VALUE_SIZE)[None, :],
            other=0.0,
        )
        weighed = tl.dot(weights.to(value_tile.dtype), value_tile, input_precision="ieee")
        values = values * decay[:, None] + weighed
        total = total * decay + tl.sum(weights, 1)
        top = new_top
    return values, top, total


@triton.jit
def _tanh(x: tl.tensor) -> tl.tensor:
    decay = tl.exp(-2.0 * tl.abs(x))
    return tl.where(x < 0, -1.0, 1.0) * (1.0 - decay) / (1.0 + decay)


@triton.jit
def _store(
    values: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    output: tl.tensor,
    partial_values: tl.tensor,
    partial_weights: tl.tensor,
    item: tl.tensor,
    tokens: tl.tensor,
    heads: tl.tensor,
    is_row: tl.tensor,
    NUM_HEADS: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
) -> None:
    partial = tl.load(item + 6)
    columns = tl.arange(0, values.shape[1])
    is_value = is_row[:, None] & (columns < VALUE_SIZE)[None, :]
    if partial < 0:
        # Every row of a request sees at least itself; the others are not stored.
        values = values / tl.where(total > 0, total, 1.0)[:, None]
        places = (tokens * NUM_HEADS + heads)[:, None] * VALUE_SIZE + columns[None, :]
        tl.store(output + places, values.to(output.dtype.element_ty), mask=is_value)
    else:
        rows = (tokens - tl.load(item) + partial) * NUM_HEADS + heads
        tl.store(partial_values + rows[:, None] * VALUE_SIZE + columns[None, :], values, mask=is_value)
        tl.store(partial_weights + rows * 2, top, mask=is_row)
        tl.store(partial_weights + rows * 2 + 1, total, mask=is_row)


@triton.jit
def _merge(
    output: tl.tensor,
    partial_values: tl.tensor,
    partial_weights: tl.tensor,
    merges: tl.tensor,
    NUM_HEADS: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    FIELDS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    merge = merges + tl.program_id(0) * FIELDS
    head = tl.program_id(1)
    token = tl.load(merge).to(tl.int64)
    segments = tl.arange(0, SEGMENTS)
    is_segment = segments < tl.load(merge + 3)
    rows = (tl.load(merge + 1) + segments * tl.load(merge + 2)).to(tl.int64) * NUM_HEADS + head
    tops = tl.load(partial_weights + rows * 2, mask=is_segment, other=float("-inf"))
    totals = tl.load(partial_weights + rows * 2 + 1, mask=is_segment, other=0.0)
    shares = tl.exp2(tops - tl.max(tops, 0))
    columns = tl.arange(0, COLUMNS)
    is_column = columns < VALUE_SIZE
    values = tl.load(
        partial_values + rows[:, None] * VALUE_SIZE + columns[None, :],
        mask=is_segment[:, None] & is_column[None, :],
        other=0.0,
    )
    merged = tl.sum(values * shares[:, None], 0) / tl.sum(totals * shares, 0)
    place = (token * NUM_HEADS + head) * VALUE_SIZE + columns
    tl.store(output + place, merged.to(output.dtype.element_ty), mask=is_column)
