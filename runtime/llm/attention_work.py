"""Which program of the attention kernels computes what: tables of one step, made on the host. Pure; knows no device.

What is done for a request follows from that request alone: which tiling, how many segments its keys are cut into, and
where. So its result is the same to the bit whatever else is in the batch.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.llm.attention_gather import Span

Table = NDArray[np.int32]

ITEM_FIELDS = 8
"""Of one program: first token in the batch, number of tokens, position of the first, first key, key to stop before,
where the block table begins, where its partials begin (-1: it writes the output), unused."""
_FIRST_TOKEN, _NUM_TOKENS, _PARTIAL = 0, 1, 6
MERGE_FIELDS = 4
"""Of one token whose keys are in segments: its place in the batch, its first partial, how far apart its partials lie,
how many there are."""

FEW_TOKENS = 8
"""A request that computes no more, like a decode and its draft, takes the tiling for few."""
SEGMENT_KEYS_MIN = 256
SEGMENTS_MAX = 32
_PARTIALS_MAX = 64
"""Segments × tokens of one request: with more tokens there are tiles enough to keep a device busy."""


class Tiling(NamedTuple):
    """What one program holds at a time, and how Triton compiles it."""

    num_rows: int
    """Query tokens × query heads that share a KV head."""
    num_keys: int
    num_warps: int
    num_stages: int


def heads_at_once(num_sharing: int, tiling: Tiling) -> int:
    """Of the query heads that share a KV head: those that one program takes."""
    return min(num_sharing, tiling.num_rows)


class Rows(NamedTuple):
    """The spans of a batch as columns."""

    start: Table
    num_tokens: Table
    num_computed_tokens: Table
    table_start: Table
    """Where the block table of each begins in `block_tables`."""
    block_tables: Table

    @classmethod
    def of(cls, spans: list[Span]) -> "Rows":
        columns = [(span.start, span.num_tokens, span.num_computed_tokens, len(span.block_ids)) for span in spans]
        start, num_tokens, num_computed_tokens, lengths = np.array(columns, dtype=np.int32).reshape(-1, 4).T
        block_tables = _joined(span.block_ids for span in spans)
        return cls(start, num_tokens, num_computed_tokens, _starts(lengths), block_tables)

    def of_few_tokens(self, *, few: bool) -> "Rows":
        """Those that take the tiling for few tokens, or the others."""
        return self.chosen((self.num_tokens <= FEW_TOKENS) == few)

    def chosen(self, is_chosen: NDArray[np.bool_]) -> "Rows":
        return Rows(
            self.start[is_chosen],
            self.num_tokens[is_chosen],
            self.num_computed_tokens[is_chosen],
            self.table_start[is_chosen],
            self.block_tables,
        )

    def slots(self, block_size: int) -> Table:
        """Where in the cache each token of the batch has its key."""
        row, token = _repeat(self.num_tokens)
        position = self.num_computed_tokens[row] + token
        block_ids = self.block_tables[self.table_start[row] + position // block_size]
        return block_ids * np.int32(block_size) + position % np.int32(block_size)


class Work(NamedTuple):
    """For one tiling."""

    items: Table
    """[programs, ITEM_FIELDS], those with the most keys first, so that none of them is left for the end."""
    merges: Table
    """[tokens, MERGE_FIELDS]."""
    num_partials: int
    """From `first_partial` on."""


class WorkCounts(NamedTuple):
    """How much a step's tables hold of each; or those of all the steps that are padded to one size."""

    num_few: int
    """Programs for requests of few tokens, and for others."""
    num_many: int
    num_merges: int
    num_partials: int
    num_blocks: int


def plan_work(rows: Rows, tiling: Tiling, num_sharing: int, window: int | None, first_partial: int = 0) -> Work:
    """`num_sharing`: query heads that share a KV head."""
    if not len(rows.start):
        return Work(np.empty((0, ITEM_FIELDS), dtype=np.int32), np.empty((0, MERGE_FIELDS), dtype=np.int32), 0)
    segments = _segments(rows, tiling.num_keys, window)
    per_tile = tiling.num_rows // heads_at_once(num_sharing, tiling)
    row, index = _repeat(-(-rows.num_tokens // per_tile) * segments.number)
    token = index // segments.number[row] * np.int32(per_tile)
    segment = index % segments.number[row]
    num_tokens = np.minimum(per_tile, rows.num_tokens[row] - token)
    position = rows.num_computed_tokens[row] + token
    first = segments.first_key[row] + segment * segments.length[row]
    stop = np.minimum(first + segments.length[row], position + num_tokens)
    if window is not None:
        first = np.maximum(first, _first_visible(position, window, tiling.num_keys))
    num_partials = np.where(segments.number > 1, segments.number * rows.num_tokens, 0)
    partial_start = np.int32(first_partial) + _starts(num_partials)
    partial = partial_start[row] + segment * rows.num_tokens[row] + token
    partial = np.where(segments.number[row] > 1, partial, -1)
    unused = np.zeros_like(row)
    columns = (rows.start[row] + token, num_tokens, position, first, stop, rows.table_start[row], partial, unused)
    items = np.stack(columns, axis=1).astype(np.int32)
    longest_first = np.argsort(first - stop, kind="stable")
    return Work(items[longest_first], _merges(rows, segments, partial_start), int(num_partials.sum()))


class _Segments(NamedTuple):
    """How the keys of each row are cut."""

    first_key: Table
    length: Table
    number: Table


def _segments(rows: Rows, num_keys: int, window: int | None) -> _Segments:
    first_key = np.zeros_like(rows.start)
    if window is not None:
        first_key = _first_visible(rows.num_computed_tokens, window, num_keys)
    num_visible = rows.num_computed_tokens + rows.num_tokens - first_key
    at_most = np.clip(_PARTIALS_MAX // rows.num_tokens, 1, SEGMENTS_MAX)
    length = np.maximum(SEGMENT_KEYS_MIN, -(-num_visible // at_most))
    length = -(-length // num_keys) * num_keys
    return _Segments(first_key, length.astype(np.int32), (-(-num_visible // length)).astype(np.int32))


def _first_visible(position: Table, window: int, num_keys: int) -> Table:
    """Of the keys that a query there sees the first, or one before it where a tile begins."""
    first: Table = np.maximum(0, position - window + 1) // num_keys * num_keys
    return first


def _merges(rows: Rows, segments: _Segments, partial_start: Table) -> Table:
    row, token = _repeat(np.where(segments.number > 1, rows.num_tokens, 0))
    columns = (rows.start[row] + token, partial_start[row] + token, rows.num_tokens[row], segments.number[row])
    return np.stack(columns, axis=1).astype(np.int32)


def pad_items(items: Table, num_items: int, padding: range) -> Table:
    """With programs that do nothing; but for each token in `padding` one writes zeros to the output."""
    padded = np.zeros((num_items, ITEM_FIELDS), dtype=np.int32)
    padded[:, _PARTIAL] = -1
    stop = len(items) + len(padding)
    padded[: len(items)] = items
    padded[len(items) : stop, _FIRST_TOKEN] = padding
    padded[len(items) : stop, _NUM_TOKENS] = 1
    return padded


def pad_merges(merges: Table, num_merges: int) -> Table:
    """With such as merge nothing."""
    padded = np.zeros((num_merges, MERGE_FIELDS), dtype=np.int32)
    padded[: len(merges)] = merges
    return padded


def _joined(block_tables: Iterable[Sequence[int]]) -> Table:
    """Arrays are copied as they are; of other sequences each number has to be looked at."""
    arrays = [table if isinstance(table, array) else array("i", table) for table in block_tables]
    return np.frombuffer(bytearray().join(arrays), dtype=np.int32)


def _starts(lengths: Table) -> Table:
    """Where each begins when they follow one another."""
    return (np.cumsum(lengths) - lengths).astype(np.int32)


def _repeat(counts: Table) -> tuple[Table, Table]:
    """Each index as often as its count says, and beside it 0, 1, 2 …"""
    index = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return index, np.arange(len(index), dtype=np.int32) - _starts(counts)[index]
