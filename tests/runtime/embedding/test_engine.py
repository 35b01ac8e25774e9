from collections.abc import Callable, Sequence

import numpy as np
import pytest

from runtime.embedding.engine import EmbeddingEngine
from runtime.embedding.request import EmbeddingRequest, Row, RowOutput, Text
from runtime.engine import RequestRefused
from runtime.message import FailureCode


class ScriptedRunner:
    """Answers every text with its length; remembers what each step was."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []
        self.seconds = 0.0
        self.seconds_per_token = 0.0

    def execute(self, rows: Sequence[Row], note_layer: Callable[[], None] = lambda: None) -> list[RowOutput]:
        self.steps.append([row.request.request_id for row in rows])
        for _ in range(2):
            note_layer()
        self.seconds += self.seconds_per_token * sum(row.text.num_tokens for row in rows)
        return [
            RowOutput(row.request.request_id, row.text_index, np.array([row.text.num_tokens], dtype=np.float32))
            for row in reversed(rows)
        ]

    def rest(self) -> bool:
        return False


class NoMemory:
    def sleep(self) -> int:
        return 7

    def wake(self) -> dict[str, float]:
        return {"weights": 1.0}


def _engine(runner: ScriptedRunner, *, max_batch_tokens: int = 100, max_num_waiting: int = 8) -> EmbeddingEngine:
    return EmbeddingEngine(
        runner,
        NoMemory(),
        max_batch_tokens=max_batch_tokens,
        max_num_waiting=max_num_waiting,
        max_num_waiting_tokens=10_000,
        clock=lambda: runner.seconds,
    )


def _request(request_id: str, *lengths: int, tenant: str = "a") -> EmbeddingRequest:
    return EmbeddingRequest(request_id, tenant, [Text([1] * length) for length in lengths])


def test_a_request_spreads_over_steps_and_a_later_one_joins_the_next() -> None:
    runner = ScriptedRunner()
    engine = _engine(runner)
    engine.add(_request("long", *[40] * 5))
    outputs = engine.step()
    engine.add(_request("short", 10))
    while engine.has_work():
        outputs += engine.step()
    assert runner.steps == [["long", "long"], ["long", "short", "long"], ["long"]]
    assert sorted(output.text_index for output in outputs if output.request_id == "long") == [0, 1, 2, 3, 4]
    assert engine.stats().num_prompt_tokens == 210


def test_an_aborted_request_leaves_before_the_next_step() -> None:
    runner = ScriptedRunner()
    engine = _engine(runner)
    engine.add(_request("gone", *[60] * 5))
    engine.add(_request("here", 60))
    engine.step()
    engine.abort("gone")
    engine.abort("unknown")
    engine.step()
    assert not engine.has_work()
    assert runner.steps == [["gone"], ["here"]]


def test_what_waits_is_bounded_and_who_is_refused_is_told_when_to_come_back() -> None:
    engine = _engine(ScriptedRunner(), max_num_waiting=4)
    for number in range(2):
        engine.add(_request(f"a{number}", 1))
    with pytest.raises(RequestRefused) as of_tenant:
        engine.add(_request("a2", 1))
    assert of_tenant.value.code is FailureCode.RATE_LIMITED
    engine.add(_request("b", 1, tenant="b"))
    engine.add(_request("c", 1, tenant="c"))
    with pytest.raises(RequestRefused) as of_all:
        engine.add(_request("d", 1, tenant="d"))
    assert of_all.value.code is FailureCode.OVERLOADED
    assert of_all.value.retry_after_s is not None
    assert engine.stats().num_waiting == 4
    engine.step()
    assert engine.stats().num_waiting == 0


def test_a_step_that_takes_long_shows_life_layer_by_layer() -> None:
    runner = ScriptedRunner()
    runner.seconds_per_token = 0.01
    engine = _engine(runner, max_batch_tokens=10_000)
    engine.add(_request("first", 10))
    engine.step()
    engine.add(_request("long", 9000))
    steps = [engine.step(), engine.step()]
    assert steps == [[], []]
    assert engine.has_work()
    engine.abort("long")
    assert engine.has_work(), "the device is at it"
    assert [output.request_id for output in engine.step()] == ["long"]
    assert not engine.has_work()


def test_it_sleeps_only_without_work() -> None:
    engine = _engine(ScriptedRunner())
    assert engine.sleep() == 7
    assert engine.wake() == {"weights": 1.0}
    engine.add(_request("a", 1))
    with pytest.raises(AssertionError, match="requests"):
        engine.sleep()
