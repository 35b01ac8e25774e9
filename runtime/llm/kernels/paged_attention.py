"""Attention over the paged KV cache as Triton kernels: one attends, one merges what segments of the keys gave.

Which program computes what stands in tables that `attention_work.py` makes on the host. A program takes some tokens
of one request and the query heads that share one KV head as the rows of a tile, and visits that request's keys a tile
at a time; nothing that it computes depends on another program. The cache holds [slots, KV heads, key and value], or
keys alone that begin with the value; numbers, or 8-bit floats that have a scale for each slot, KV head and part.
"""

import math

import torch
import triton
import triton.language as tl

from runtime.llm.attention_work import ITEM_FIELDS, MERGE_FIELDS, SEGMENTS_MAX, Tiling, heads_at_once
from runtime.llm.forward_context import Scoring


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
    scoring: Scoring,
    *,
    scales: torch.Tensor | None = None,
    block_size: int,
    tiling: Tiling,
) -> None:
    """Fill the rows of `output`, which is contiguous, that the items name, or their partials; no tokens, no rows."""
    scaling, window, softcap, sinks = scoring
    num_heads, head_size = query.shape[1:]
    num_kv_heads, width = cache.shape[1:]
    value_size = output.shape[2]
    has_values_in_keys = width == head_size
    assert has_values_in_keys or width == head_size + value_size
    assert query.stride(2) == 1
    num_sharing = num_heads // num_kv_heads
    num_at_once = heads_at_once(num_sharing, tiling)
    first_size = value_size if has_values_in_keys else head_size
    scale = scaling * math.log2(math.e) if softcap is None else scaling / softcap
    _attend[(items.shape[0], num_kv_heads * triton.cdiv(num_sharing, num_at_once))](
        output,
        query,
        cache,
        items if scales is None else scales,  # never read where there are none, nor are sinks
        items if sinks is None else sinks,
        block_tables,
        items,
        partials.values,
        partials.weights,
        scale,
        query.stride(0),
        query.stride(1),
        NUM_HEADS=num_heads,
        NUM_KV_HEADS=num_kv_heads,
        AT_ONCE=num_at_once,
        HEAD_SIZE=head_size,
        VALUE_SIZE=value_size,
        BLOCK_SIZE=block_size,
        WINDOW=window or 0,
        CAP=0.0 if softcap is None else softcap * math.log2(math.e),
        FIELDS=ITEM_FIELDS,
        ROWS=tiling.num_rows,
        KEYS=tiling.num_keys,
        FIRST_COLUMNS=num_columns(first_size),
        REST_COLUMNS=num_columns(head_size - first_size) if has_values_in_keys else 0,
        VALUE_COLUMNS=num_columns(value_size),
        IS_FP8=scales is not None,
        HAS_SINKS=sinks is not None,
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
        enable_fp_fusion=True,  # said aloud, because what Triton does by itself will change
    )


def merge_partials(
    output: torch.Tensor, partials: Partials, merges: torch.Tensor, sinks: torch.Tensor | None = None
) -> None:
    """Fill the rows of `output` that the merges name; one of no segments is none."""
    num_heads, value_size = output.shape[1:]
    _merge[(merges.shape[0], num_heads)](
        output,
        partials.values,
        partials.weights,
        merges,
        merges if sinks is None else sinks,
        NUM_HEADS=num_heads,
        VALUE_SIZE=value_size,
        FIELDS=MERGE_FIELDS,
        SEGMENTS=SEGMENTS_MAX,
        COLUMNS=num_columns(value_size),
        HAS_SINKS=sinks is not None,
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
    scales: tl.tensor,
    sinks: tl.tensor,
    block_tables: tl.tensor,
    items: tl.tensor,
    partial_values: tl.tensor,
    partial_weights: tl.tensor,
    scale: tl.tensor,
    query_token_stride: tl.tensor,
    query_head_stride: tl.tensor,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    FIRST_COLUMNS: tl.constexpr,
    REST_COLUMNS: tl.constexpr,
    VALUE_COLUMNS: tl.constexpr,
    IS_FP8: tl.constexpr,
    HAS_SINKS: tl.constexpr,
) -> None:
    SHARING: tl.constexpr = NUM_HEADS // NUM_KV_HEADS
    FIRST_SIZE: tl.constexpr = VALUE_SIZE if REST_COLUMNS > 0 else HEAD_SIZE
    WIDTH: tl.constexpr = HEAD_SIZE if REST_COLUMNS > 0 else HEAD_SIZE + VALUE_SIZE
    item = items + tl.program_id(0) * FIELDS
    if tl.load(item + 1) == 0:
        return
    first, stop, table = tl.load(item + 3), tl.load(item + 4), block_tables + tl.load(item + 5)
    tokens, positions, kv_head, heads, is_row = _rows(item, tl.program_id(1), SHARING, AT_ONCE, ROWS)
    query += tokens * query_token_stride + heads * query_head_stride
    queries = _load_queries(query, is_row, FIRST_SIZE, FIRST_COLUMNS)
    rest_queries, cache, scales = queries, cache + kv_head * WIDTH, scales + kv_head * 2
    if REST_COLUMNS > 0:
        rest_queries = _load_queries(query + FIRST_SIZE, is_row, HEAD_SIZE - FIRST_SIZE, REST_COLUMNS)
    values, top, total = _begin(item, sinks + heads, is_row, VALUE_COLUMNS, HAS_SINKS)
    if WINDOW == 0:
        # Every row sees the keys up to the first row's position: whole tiles of those need no mask.
        middle = first + tl.maximum(tl.minimum(tl.load(item + 2) + 1, stop) - first, 0) // KEYS * KEYS
        values, top, total = _visit(
            values, top, total, queries, rest_queries, positions, scale, cache, scales, table, first, middle,
            NUM_KV_HEADS, HEAD_SIZE, VALUE_SIZE, FIRST_SIZE, WIDTH, BLOCK_SIZE, WINDOW, CAP, KEYS, IS_FP8, False,
        )  # fmt: skip
        first = middle
    values, top, total = _visit(
        values, top, total, queries, rest_queries, positions, scale, cache, scales, table, first, stop,
        NUM_KV_HEADS, HEAD_SIZE, VALUE_SIZE, FIRST_SIZE, WIDTH, BLOCK_SIZE, WINDOW, CAP, KEYS, IS_FP8, True,
    )  # fmt: skip
    _store(
        values, top, total, output, partial_values, partial_weights, item, tokens, heads, is_row, NUM_HEADS, VALUE_SIZE
    )  # fmt: skip


@triton.jit
def _rows(
    item: tl.tensor, group: tl.tensor, SHARING: tl.constexpr, AT_ONCE: tl.constexpr, ROWS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Of a program: tokens and their positions, KV head, heads, and which rows there are. A group is some of the heads
    that share a KV head."""
    GROUPS: tl.constexpr = (SHARING + AT_ONCE - 1) // AT_ONCE
    rows = tl.arange(0, ROWS)
    tokens = (tl.load(item) + rows // AT_ONCE).to(tl.int64)
    sharing_heads = group % GROUPS * AT_ONCE + rows % AT_ONCE
    is_row = (rows < tl.load(item + 1) * AT_ONCE) & (sharing_heads < SHARING)
    kv_head = group // GROUPS
    return tokens, tl.load(item + 2) + rows // AT_ONCE, kv_head, kv_head * SHARING + sharing_heads, is_row


@triton.jit
def _begin(
    item: tl.tensor, sinks: tl.tensor, is_row: tl.tensor, VALUE_COLUMNS: tl.constexpr, HAS_SINKS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """What rows have weighed before their first key: values, largest score and the sum of weights relative to it."""
    top, total = tl.full(is_row.shape, float("-inf"), tl.float32), tl.zeros(is_row.shape, tl.float32)
    if HAS_SINKS:
        is_whole = tl.load(item + 6) < 0  # sinks of partials are merged, once
        top = tl.where(is_whole, _load_sinks(sinks, is_row), top)
        total = tl.where(is_whole, 1.0, total)
    return tl.zeros([is_row.shape[0], VALUE_COLUMNS], tl.float32), top, total


@triton.jit
def _load_queries(rows: tl.tensor, is_row: tl.tensor, SIZE: tl.constexpr, COLUMNS: tl.constexpr) -> tl.tensor:
    columns = tl.arange(0, COLUMNS)[None, :]
    return tl.load(rows[:, None] + columns, mask=is_row[:, None] & (columns < SIZE), other=0.0)


@triton.jit
def _load_sinks(sinks: tl.tensor, is_sink: tl.tensor) -> tl.tensor:
    """In float32, times log2(e)."""
    return tl.load(sinks, mask=is_sink, other=0.0).to(tl.float32) * 1.4426950408889634


@triton.jit
def _visit(
    values: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    queries: tl.tensor,
    rest_queries: tl.tensor,
    positions: tl.tensor,
    scale: tl.tensor,
    cache: tl.tensor,
    scales: tl.tensor,
    table: tl.tensor,
    first: tl.tensor,
    stop: tl.tensor,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    FIRST_SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    KEYS: tl.constexpr,
    IS_FP8: tl.constexpr,
    IS_MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Keys from `first` to `stop`, folded into what the rows have weighed so far; a tile that hides all changes none"""
    for start in range(first, stop, KEYS):
        keys = start + tl.arange(0, KEYS)
        is_key = keys < stop
        blocks = tl.load(table + keys // BLOCK_SIZE, mask=is_key, other=0).to(tl.int64)
        places = (blocks * BLOCK_SIZE + keys % BLOCK_SIZE) * NUM_KV_HEADS
        scores, key_tile, value_scales = _score(
            queries, rest_queries, cache, scales, places, is_key, HEAD_SIZE, FIRST_SIZE, WIDTH, IS_FP8
        )
        scores = scores * scale
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
        total = total * decay + tl.sum(weights, 1)
        if IS_FP8:
            weights = weights * value_scales[None, :]
        if WIDTH == HEAD_SIZE:
            value_tile = tl.trans(key_tile)
        else:
            value_columns = tl.arange(0, values.shape[1])[None, :]
            is_value = is_key[:, None] & (value_columns < VALUE_SIZE)
            value_places = cache + HEAD_SIZE + places[:, None] * WIDTH + value_columns
            value_tile = tl.load(value_places, mask=is_value, other=0.0).to(queries.dtype)
        weighed = tl.dot(weights.to(value_tile.dtype), value_tile, input_precision="ieee")
        values = values * decay[:, None] + weighed
        top = new_top
    return values, top, total


@triton.jit
def _score(
    queries: tl.tensor,
    rest_queries: tl.tensor,
    cache: tl.tensor,
    scales: tl.tensor,
    places: tl.tensor,
    is_key: tl.tensor,
    HEAD_SIZE: tl.constexpr,
    FIRST_SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    IS_FP8: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Products of queries and keys; the keys, or the part of them that is values; and the scales of the values."""
    key_tile = _load_keys(cache, places * WIDTH, is_key, FIRST_SIZE, queries)
    scores = tl.dot(queries, key_tile, input_precision="ieee")
    first_scales = places
    value_scales = places
    if IS_FP8:
        first_scales = tl.load(scales + places * 2, mask=is_key, other=0.0)
        value_scales = tl.load(scales + places * 2 + 1, mask=is_key, other=0.0)
        scores = scores * first_scales[None, :]
    if WIDTH == HEAD_SIZE:
        rest_tile = _load_keys(cache + FIRST_SIZE, places * WIDTH, is_key, HEAD_SIZE - FIRST_SIZE, rest_queries)
        rest_scores = tl.dot(rest_queries, rest_tile, input_precision="ieee")
        if IS_FP8:
            rest_scores = rest_scores * value_scales[None, :]
            value_scales = first_scales
        scores = scores + rest_scores
    return scores, key_tile, value_scales


@triton.jit
def _load_keys(
    cache: tl.tensor, slots: tl.tensor, is_key: tl.tensor, SIZE: tl.constexpr, queries: tl.tensor
) -> tl.tensor:
    """A tile of [size, keys], for products with these queries."""
    columns = tl.arange(0, queries.shape[1])[:, None]
    tile = tl.load(cache + slots[None, :] + columns, mask=is_key[None, :] & (columns < SIZE), other=0.0)
    return tile.to(queries.dtype)


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
    sinks: tl.tensor,
    NUM_HEADS: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    FIELDS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HAS_SINKS: tl.constexpr,
) -> None:
    merge = merges + tl.program_id(0) * FIELDS
    head = tl.program_id(1)
    token = tl.load(merge).to(tl.int64)
    segments = tl.arange(0, SEGMENTS)
    num_segments = tl.load(merge + 3)
    if num_segments == 0:
        return
    is_segment = segments < num_segments
    rows = (tl.load(merge + 1) + segments * tl.load(merge + 2)).to(tl.int64) * NUM_HEADS + head
    tops = tl.load(partial_weights + rows * 2, mask=is_segment, other=float("-inf"))
    totals = tl.load(partial_weights + rows * 2 + 1, mask=is_segment, other=0.0)
    top, sink_total = tl.max(tops, 0), 0.0
    if HAS_SINKS:
        sink = _load_sinks(sinks + head, num_segments > 0)
        top = tl.maximum(top, sink)
        sink_total = tl.exp2(sink - top)
    shares = tl.exp2(tops - top)
    columns = tl.arange(0, COLUMNS)
    is_column = columns < VALUE_SIZE
    values = tl.load(
        partial_values + rows[:, None] * VALUE_SIZE + columns[None, :],
        mask=is_segment[:, None] & is_column[None, :],
        other=0.0,
    )
    merged = tl.sum(values * shares[:, None], 0) / (tl.sum(totals * shares, 0) + sink_total)
    place = (token * NUM_HEADS + head) * VALUE_SIZE + columns
    tl.store(output + place, merged.to(output.dtype.element_ty), mask=is_column)
