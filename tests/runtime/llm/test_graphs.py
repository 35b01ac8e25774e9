"""Replayed steps against the same steps without graphs; on a GPU by CUDA's graphs, else as they were written down."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from runtime.llm.adapters.adaptation import AdaptedRow, PlainAdaptation
from runtime.llm.cuda_graphs import CudaCapturer
from runtime.llm.graphs import Capturer
from tests.fakes.graphed_requests import Side, are_same, make_rows
from tests.fakes.recorded_graphs import RecordedGraphs
from tests.fakes.toy_network import ToyModel
from tests.fakes.triton_device import DEVICE, IS_INTERPRETED

BATCHES = {
    "a decode": [(9, 1)],
    "keys in segments, and a draft": [(300, 1), (4, 2)],
    "as many tokens as were captured": [(9, 1), (3, 1), (2, 1), (0, 1)],
    "decodes, and prompts from the middle": [(12, 1), (1, 1), (7, 10), (0, 1), (40, 9)],
    "fewer decodes": [(9, 1), (3, 1)],
    "nothing but a prompt": [(0, 13)],
    "one decode": [(3, 1)],
}
is_recorded = pytest.mark.skipif(not IS_INTERPRETED, reason="only interpreted kernels can be written down")
DECODES = [(9, 1), (3, 1), (2, 1)]


def real_capturer() -> Capturer:
    return RecordedGraphs() if IS_INTERPRETED else CudaCapturer(DEVICE)


def graphed(capturer: RecordedGraphs, budget_bytes: int = 10**9) -> Side:
    return Side(ToyModel(DEVICE), capturer, budget_bytes=budget_bytes)


def decode(side: Side, num_times: int = 1, lengths: list[tuple[int, int]] = DECODES) -> None:
    for _ in range(num_times):
        side.logits(make_rows(lengths))


def test_replayed_steps_equal_those_without_graphs_to_the_bit_and_touch_nothing_else() -> None:
    model = ToyModel(DEVICE)
    with_graphs, without = Side(model, real_capturer()), Side(model)
    assert with_graphs.graphs is not None
    for lengths in BATCHES.values():  # so that the next pause captures all sizes
        decode(with_graphs, lengths=lengths)
    while with_graphs.graphs.capture_next():
        pass
    for name, lengths in BATCHES.items():
        for side in (with_graphs, without):
            side.fill()
        rows = make_rows(lengths)
        assert are_same(with_graphs.logits(rows), without.logits(rows)), name
        for cache, expected in zip(with_graphs.attention.caches, without.attention.caches, strict=True):
            assert torch.equal(cache, expected), name


def test_logits_nobody_announced_can_be_had_after_a_replay() -> None:
    model, rows = ToyModel(DEVICE), make_rows([(4, 5)])
    with_graphs, without = Side(model, real_capturer()), Side(model)
    decode(with_graphs, 2, [(4, 5)])
    computed, expected = (side.forward.compute(rows, [4]) for side in (with_graphs, without))
    for wanted in ([4], [0, 2, 4], [1]):
        assert are_same(computed.logits(wanted), expected.logits(wanted))


def test_a_size_is_captured_when_it_has_come_up_three_times() -> None:
    capturer = RecordedGraphs()
    side = graphed(capturer)
    decode(side, 2)
    assert capturer.num_captures == 0
    decode(side)
    assert (capturer.num_captures, capturer.num_replays) == (1, 1)
    decode(side, lengths=[(5, 1), (6, 1), (7, 1), (8, 1)])
    assert (capturer.num_captures, capturer.num_replays) == (1, 2)


def test_a_pause_captures_what_has_come_up_the_largest_first() -> None:
    capturer = RecordedGraphs()
    side = graphed(capturer)
    assert side.graphs is not None
    assert not side.graphs.capture_next()
    decode(side, lengths=[(1, 1)])
    decode(side)
    assert side.graphs.capture_next()
    decode(side, lengths=[(1, 1)])
    assert capturer.num_replays == 0
    decode(side)
    assert capturer.num_replays == 1
    assert not side.graphs.capture_next()
    decode(side, lengths=[(1, 1)])
    assert (capturer.num_captures, capturer.num_replays) == (2, 2)


def test_the_step_of_one_token_is_captured_before_any_request() -> None:
    capturer = RecordedGraphs()
    side = graphed(capturer)
    side.forward.warm_up(100)
    decode(side, lengths=[(70, 1)])
    assert (capturer.num_captures, capturer.num_replays) == (1, 1)


@is_recorded
def test_a_size_that_cannot_be_captured_is_told_of_once_and_computed_without(caplog: pytest.LogCaptureFixture) -> None:
    capturer = RecordedGraphs(refused=lambda index: index == 0)
    side, without = graphed(capturer), Side(ToyModel(DEVICE))
    with caplog.at_level(logging.WARNING):
        decode(side, 5)
    assert len(caplog.records) == 1
    assert (capturer.num_captures, capturer.num_replays) == (1, 0)
    assert torch.equal(side.logits(make_rows(DECODES)), without.logits(make_rows(DECODES)))
    decode(side, 3, [(4, 1)])
    assert capturer.num_replays == 1


def test_a_model_whose_smallest_step_cannot_be_captured_has_no_graphs() -> None:
    capturer = RecordedGraphs(refused=lambda index: True)
    side = graphed(capturer)
    assert side.graphs is not None
    side.graphs.warm_up()
    decode(side, 4)
    assert not side.graphs.capture_next()
    assert capturer.num_captures == 1


def test_no_more_are_captured_than_there_is_memory_for() -> None:
    capturer = RecordedGraphs(bytes_each=10)
    side = graphed(capturer, budget_bytes=15)
    decode(side, 3)
    decode(side, 3, [(4, 1)])
    decode(side, 4, [(4, 9)])
    assert capturer.num_captures == 2
    decode(side)
    assert capturer.num_replays == 3


@is_recorded
def test_before_memory_is_given_back_all_are_dropped_and_captured_again_where_it_is_then() -> None:
    capturer = RecordedGraphs()
    side, without = graphed(capturer), Side(ToyModel(DEVICE))
    assert side.graphs is not None
    decode(side, 3)
    side.graphs.release()
    side.attention.release()
    assert capturer.num_releases == 1
    side.attention.allocate()
    side.graphs.allocate()
    side.fill()
    assert not side.graphs.capture_next()
    decode(side, lengths=[(4, 1)])
    assert (capturer.num_captures, capturer.num_replays) == (2, 2)
    decode(side, 2)
    side.fill()
    assert torch.equal(side.logits(make_rows(DECODES)), without.logits(make_rows(DECODES)))
    assert (capturer.num_captures, capturer.num_replays) == (3, 3)


class Addon:
    digest = b"addon"


class Shift(PlainAdaptation):
    """An adapter that adds a number to hidden states, from a table that is always at the same place."""

    is_replayable = True

    def __init__(self, model: ToyModel) -> None:
        super().__init__([], DEVICE)
        self._table = torch.zeros(64, 1, 1, device=DEVICE)
        self._model = model

    @contextmanager
    def applied(self, rows: Sequence[AdaptedRow]) -> Iterator[None]:
        added = [float(row.adapter is not None) for row in rows for _ in row.token_ids]
        self._table[: len(added)] = torch.tensor(added, device=DEVICE).view(-1, 1, 1)
        self._model.model.shift = self._table if any(added) else None
        yield


@pytest.mark.parametrize("is_replayable", [False, True])
def test_rows_with_an_adapter_have_graphs_of_their_own_where_those_can_be(is_replayable: bool) -> None:
    capturer = RecordedGraphs()
    sides = []
    for model, own in ((ToyModel(DEVICE), capturer), (ToyModel(DEVICE), None)):
        adaptation = Shift(model)
        adaptation.is_replayable = is_replayable
        sides.append(Side(model, own, adaptation=adaptation))
    side, without = sides
    plain, others = make_rows([(3, 1)]), make_rows([(5, 1)])
    adapted = [row._replace(adapter=Addon()) for row in others]
    for rows in (plain, adapted, plain, adapted, plain, adapted):
        side.logits(rows)
    assert capturer.num_captures == 1 + is_replayable
    for rows in (plain, adapted, plain):
        for each in sides:
            each.fill()
        if IS_INTERPRETED:
            assert torch.equal(side.logits(rows), without.logits(rows))


@is_recorded
def test_a_pause_captures_without_the_adapters_of_the_last_step() -> None:
    model = ToyModel(DEVICE)
    adaptation = Shift(model)
    side, without = Side(model, RecordedGraphs(), adaptation=adaptation), Side(ToyModel(DEVICE))
    plain = make_rows([(3, 1)])
    side.logits(plain)
    side.logits([row._replace(adapter=Addon()) for row in make_rows([(3, 1), (4, 1)])])
    assert not side.forward.rest()
    for each in (side, without):
        each.fill()
    assert torch.equal(side.logits(plain), without.logits(plain))
