"""The tables that attention kernels work by, checked by following them."""

import itertools
from array import array

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.llm.attention_gather import Span
from runtime.llm.attention_work import (
    FEW_TOKENS,
    SEGMENTS_MAX,
    Rows,
    Tiling,
    Work,
    pad_items,
    pad_merges,
    plan_work,
)

BLOCK_SIZE = 4
NUM_SHARING = 3
TILING = Tiling(16, 8, 1, 1)
LENGTHS = [(0, 1), (300, 1), (40_000, 1), (259, 8), (5, 9), (700, 33), (0, 200), (1000, 65)]


def make_spans(lengths: list[tuple[int, int]]) -> list[Span]:
    """(already computed, computed now) of each; blocks count up from 1."""
    block_ids = itertools.count(1)
    spans: list[Span] = []
    for before, now in lengths:
        start = sum(span.num_tokens for span in spans)
        num_blocks = -(-(before + now) // BLOCK_SIZE)
        spans.append(Span(start, now, before, list(itertools.islice(block_ids, num_blocks))))
    return spans


def visits(rows: Rows, work: Work, window: int | None) -> dict[int, NDArray[np.int64]]:
    """By token of the batch: how often each of its request's keys is visited, where it may be."""
    counts: dict[int, NDArray[np.int64]] = {}
    for start, num_tokens, before in zip(rows.start, rows.num_tokens, rows.num_computed_tokens, strict=True):
        counts |= {int(start + i): np.zeros(before + num_tokens, dtype=np.int64) for i in range(num_tokens)}
    for first_token, num_tokens, position, first, stop, *_ in work.items.tolist():
        for i in range(num_tokens):
            visible = position + i if window is None else max(0, position + i - window + 1)
            counts[first_token + i][max(first, 0 if window is None else visible) : min(stop, position + i + 1)] += 1
    return counts


@pytest.mark.parametrize("window", [None, 1, 50, 600])
def test_every_visible_key_is_visited_once(window: int | None) -> None:
    rows = Rows.of(make_spans(LENGTHS))
    for token, counts in visits(rows, plan_work(rows, TILING, NUM_SHARING, window), window).items():
        row = np.searchsorted(rows.start, token, side="right") - 1
        position = rows.num_computed_tokens[row] + token - rows.start[row]
        first = 0 if window is None else max(0, position - window + 1)
        assert (counts[first : position + 1] == 1).all()
        assert counts.sum() == position + 1 - first


@pytest.mark.parametrize("window", [None, 600])
def test_each_partial_is_written_once_and_merged_once(window: int | None) -> None:
    work = plan_work(Rows.of(make_spans(LENGTHS)), TILING, NUM_SHARING, window, first_partial=7)
    written = [
        (partial + i, first_token + i)
        for first_token, num_tokens, _, _, _, _, partial, _ in work.items.tolist()
        if partial >= 0
        for i in range(num_tokens)
    ]
    merged = [(first + i * step, token) for token, first, step, count in work.merges.tolist() for i in range(count)]
    assert sorted(written) == sorted(merged)
    assert [partial for partial, _ in sorted(written)] == list(range(7, 7 + work.num_partials))
    assert 1 < work.merges[:, 3].max() <= SEGMENTS_MAX


def test_a_request_is_computed_alike_alone_and_in_a_batch() -> None:
    spans = make_spans(LENGTHS)
    in_batch = plan_work(Rows.of(spans), TILING, NUM_SHARING, None)
    for span, length in zip(spans, LENGTHS, strict=True):
        alone = plan_work(Rows.of(make_spans([length])), TILING, NUM_SHARING, None)
        is_own = (in_batch.items[:, 0] >= span.start) & (in_batch.items[:, 0] < span.start + span.num_tokens)
        own = in_batch.items[is_own]
        assert (own[:, 1:5] == alone.items[:, 1:5]).all()
        assert (own[:, 0] - span.start == alone.items[:, 0]).all()


def test_the_longest_work_begins_first() -> None:
    items = plan_work(Rows.of(make_spans(LENGTHS)), TILING, NUM_SHARING, None).items
    num_keys = items[:, 4] - items[:, 3]
    assert (np.diff(num_keys) <= 0).all()


def test_requests_are_divided_by_how_many_tokens_they_compute() -> None:
    rows = Rows.of(make_spans(LENGTHS))
    few, many = rows.of_few_tokens(few=True), rows.of_few_tokens(few=False)
    assert few.num_tokens.max() <= FEW_TOKENS < many.num_tokens.min()
    assert sorted([*few.start, *many.start]) == sorted(rows.start)


def test_tokens_go_to_the_slots_of_their_positions() -> None:
    spans = make_spans(LENGTHS)
    expected = [
        span.block_ids[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
        for span in spans
        for position in range(span.num_computed_tokens, span.num_keys)
    ]
    assert Rows.of(spans).slots(BLOCK_SIZE).tolist() == expected


def test_no_requests_of_a_kind_is_no_work() -> None:
    rows = Rows.of(make_spans([(3, 1)])).of_few_tokens(few=False)
    work = plan_work(rows, TILING, NUM_SHARING, 5)
    assert (len(work.items), len(work.merges), work.num_partials) == (0, 0, 0)


def test_padding_has_a_program_for_each_token_which_visits_nothing_and_others_without_tokens() -> None:
    items = plan_work(Rows.of(make_spans([(300, 1), (4, 2)])), TILING, NUM_SHARING, None).items
    padded = pad_items(items, 9, range(3, 5))
    assert (padded[: len(items)] == items).all()
    rest = padded[len(items) :]
    assert rest[:, 0].tolist()[:2] == [3, 4]
    assert rest[:, 1].tolist() == [1, 1, *[0] * (len(rest) - 2)]
    assert (rest[:, 3] == rest[:, 4]).all()
    assert (rest[:, 6] == -1).all()


def test_padding_merges_nothing() -> None:
    merges = plan_work(Rows.of(make_spans([(300, 1)])), TILING, NUM_SHARING, None).merges
    padded = pad_merges(merges, 3)
    assert (padded[:1] == merges).all()
    assert (padded[1:, 3] == 0).all()


def test_block_tables_are_joined_whatever_holds_them() -> None:
    spans = make_spans([(9, 1), (2, 3)])
    as_arrays = [span._replace(block_ids=array("i", span.block_ids)) for span in spans]
    expected = [block_id for span in spans for block_id in span.block_ids]
    assert Rows.of(spans).block_tables.tolist() == Rows.of(as_arrays).block_tables.tolist() == expected


def test_a_step_of_no_requests_has_empty_tables() -> None:
    rows = Rows.of([])
    assert len(rows.slots(BLOCK_SIZE)) == len(rows.block_tables) == 0
