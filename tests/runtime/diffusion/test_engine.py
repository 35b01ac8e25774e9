"""The engine's own decisions, over a painter that only counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from runtime.diffusion.engine import DiffusionEngine, Painted
from runtime.diffusion.request import DiffusionOutput, DrawRequest, Failure, Finished, Progressed
from runtime.engine import RequestRefused
from runtime.message import FailureCode
from tests.runtime.diffusion.conftest import Studio


class Sketch:
    def __init__(self, request: DrawRequest, seed: int) -> None:
        self.request = request
        self.seed = seed
        self.num_steps = request.num_steps
        self.num_steps_done = 0


class Counter:
    """A painter that notes what ran side by side; told to, it fails."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.fails_at: dict[str, str] = {}
        """Request id to `begin`, `advance` or `finish`."""
        self.failure: Exception = ValueError("told to")
        self.places: int | None = None
        """Pictures that the memory holds."""
        self.num_released = 0

    def begin(self, request: DrawRequest, seed: int) -> Sketch:
        self._fail(request, "begin")
        return Sketch(request, seed)

    def predict(self, paintings: Sequence[Any]) -> list[torch.Tensor]:
        if self.places is not None and len(paintings) > self.places:
            raise torch.OutOfMemoryError
        self.batches.append([sketch.request.request_id for sketch in paintings])
        return [torch.zeros(1) for _ in paintings]

    def advance(self, painting: Sketch, prediction: torch.Tensor) -> None:
        self._fail(painting.request, "advance")
        painting.num_steps_done += 1

    def finish(self, painting: Sketch) -> Painted:
        self._fail(painting.request, "finish")
        return Painted(np.full((1, 1, 3), painting.seed, dtype=np.uint8), False)

    def release(self) -> None:
        self.num_released += 1

    def _fail(self, request: DrawRequest, moment: str) -> None:
        if self.fails_at.get(request.request_id) == moment:
            raise self.failure


@pytest.fixture
def painter() -> Counter:
    return Counter()


@pytest.fixture
def engine(painter: Counter) -> DiffusionEngine:
    return DiffusionEngine(painter, max_batch_size=3, max_batch_pixels=3 * 64 * 64, max_num_waiting=6)


def request(name: str, **fields: Any) -> DrawRequest:
    stated: dict[str, Any] = {"width": 64, "height": 64, "num_steps": 2, "seeds": [1], "tenant": name[0]} | fields
    return DrawRequest(request_id=name, prompt="", negative_prompt="", guidance_scale=1.0, **stated)


def run(engine: DiffusionEngine) -> list[DiffusionOutput]:
    outputs: list[DiffusionOutput] = []
    for _ in range(1000):
        if not engine.has_work():
            return outputs
        outputs += engine.step()
    raise AssertionError("it never ends")


def finished(outputs: list[DiffusionOutput]) -> list[tuple[str, int]]:
    return [(output.request_id, output.index) for output in outputs if isinstance(output, Finished)]


def test_pictures_of_one_shape_run_side_by_side(engine: DiffusionEngine, painter: Counter) -> None:
    for each in (request("a"), request("b"), request("c", num_steps=3)):
        engine.add(each)
    assert finished(run(engine)) == [("a", 0), ("b", 0), ("c", 0)]
    assert painter.batches == [["a", "b", "c"], ["a", "b", "c"], ["c"]]


def test_a_newcomer_joins_pictures_that_are_half_done(engine: DiffusionEngine, painter: Counter) -> None:
    engine.add(request("a", num_steps=4))
    for _ in range(3):
        engine.step()
    engine.add(request("b"))
    run(engine)
    assert painter.batches == [["a"], ["a"], ["a", "b"], ["a", "b"]]


def test_other_shapes_wait_until_these_are_done(engine: DiffusionEngine, painter: Counter) -> None:
    for each in (request("a"), request("b", width=128), request("c")):
        engine.add(each)
    run(engine)
    assert painter.batches == [["a", "c"], ["a", "c"], ["b"], ["b"]]


def test_no_step_holds_more_pixels_than_its_memory_was_reckoned_for(engine: DiffusionEngine, painter: Counter) -> None:
    engine.add(request("a", width=128, height=64, seeds=[1, 2]))
    engine.add(request("b", width=640, height=640, seeds=[1, 2]))
    run(engine)
    assert {len(batch) for batch in painter.batches} == {1}


def test_a_requests_pictures_are_told_by_their_place_among_its_seeds(engine: DiffusionEngine) -> None:
    engine.add(request("a", seeds=[7, 8, 9, 10]))
    made = [output for output in run(engine) if isinstance(output, Finished)]
    assert {output.index: int(output.pixels[0, 0, 0]) for output in made} == {0: 7, 1: 8, 2: 9, 3: 10}
    assert [output.is_last for output in made] == [False, False, False, True]


def test_an_aborted_request_stops_before_the_next_step(engine: DiffusionEngine, painter: Counter) -> None:
    engine.add(request("a", num_steps=50, seeds=[1, 2, 3, 4]))
    engine.add(request("b", num_steps=2))
    for _ in range(5):
        engine.step()
    engine.abort("a")
    engine.abort("unknown")
    num_batches = len(painter.batches)
    assert finished(run(engine)) == [("b", 0)]
    assert all(batch == ["b"] for batch in painter.batches[num_batches:])
    assert painter.num_released == 1


@pytest.mark.parametrize("moment", ["begin", "advance", "finish"])
def test_a_failure_of_one_request_is_its_own(engine: DiffusionEngine, painter: Counter, moment: str) -> None:
    painter.fails_at = {"bad": moment}
    for each in (request("a"), request("bad", seeds=[1, 2]), request("c")):
        engine.add(each)
    outputs = run(engine)
    assert sorted(finished(outputs)) == [("a", 0), ("c", 0)]
    assert [output for output in outputs if isinstance(output, Failure)] == [Failure("bad")]


def test_a_broken_device_ends_the_worker(engine: DiffusionEngine, painter: Counter) -> None:
    painter.fails_at, painter.failure = {"a": "finish"}, torch.AcceleratorError("an illegal access")
    engine.add(request("a"))
    with pytest.raises(torch.AcceleratorError):
        run(engine)


def test_a_batch_that_does_not_fit_is_made_smaller_and_stays_so(engine: DiffusionEngine, painter: Counter) -> None:
    painter.places = 1
    engine.add(request("a", seeds=[1, 2, 3], reports_progress=True))
    outputs = run(engine)
    assert sorted(finished(outputs)) == [("a", 0), ("a", 1), ("a", 2)]
    assert {len(batch) for batch in painter.batches} == {1}
    assert [output for output in outputs if isinstance(output, Progressed)][-1] == Progressed("a", 6, 6)


def test_a_picture_that_does_not_fit_alone_fails_for_want_of_memory(engine: DiffusionEngine, painter: Counter) -> None:
    painter.places = 0
    engine.add(request("a"))
    assert run(engine) == [Failure("a", is_out_of_memory=True)]


def test_progress_is_of_all_pictures_of_a_request_and_for_who_asks(engine: DiffusionEngine) -> None:
    engine.add(request("a", seeds=[1, 2], reports_progress=True))
    engine.add(request("b"))
    told = [output for output in run(engine) if isinstance(output, Progressed)]
    assert told == [Progressed("a", 2, 4), Progressed("a", 4, 4)]


def test_one_tenant_may_fill_half_of_the_line(engine: DiffusionEngine) -> None:
    for number in range(3):
        engine.add(request(f"a{number}"))
    with pytest.raises(RequestRefused) as refusal:
        engine.add(request("a3"))
    assert refusal.value.code is FailureCode.RATE_LIMITED
    for name in ("b", "c", "d"):
        engine.add(request(name))
    with pytest.raises(RequestRefused) as refusal:
        engine.add(request("e"))
    assert refusal.value.code is FailureCode.OVERLOADED
    assert len(finished(run(engine))) == 6


def test_pictures_that_wait_have_a_limit_in_bytes(engine: DiffusionEngine) -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), shape=(2**15, 2**14, 3), strides=(0, 0, 0))
    engine.add(request("a", image=huge))
    with pytest.raises(RequestRefused, match="too many"):
        engine.add(request("b", image=huge))


def test_stats_count_pictures(engine: DiffusionEngine) -> None:
    engine.add(request("a", seeds=[1] * 5))
    engine.step()
    assert (engine.stats().num_running, engine.stats().num_waiting) == (3, 2)


def test_a_model_that_slept_draws_as_before(sdxl: Studio) -> None:
    (before,) = sdxl.draw()
    assert sdxl.engine.sleep() > 0
    sdxl.engine.wake()
    assert np.array_equal(sdxl.draw()[0], before)
