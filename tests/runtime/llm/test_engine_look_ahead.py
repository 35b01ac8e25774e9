"""Steps on their way: what the engine makes of them when one is followed, dropped or breaks down."""

from collections import defaultdict

import pytest

from runtime.llm.request import Batch, RowResult, TokenOutput
from tests.fakes.scripted_runner import ScriptedRunner, ScriptedStep, generate_alone
from tests.runtime.llm.test_engine import (
    NUM_STEPS_MAX,
    BrokenDevice,
    Outputs,
    assert_complete,
    assert_idle,
    build_engine_and_runner,
    call,
    drain,
    tokens,
)


def test_what_the_device_raises_while_a_step_is_on_its_way_loses_nothing() -> None:
    engine, runner = build_engine_and_runner(BrokenDevice, look_ahead=True)
    generation = call("r", list(range(10)))
    engine.add(generation)
    engine.step()
    runner.failing = True
    for _ in range(2):
        with pytest.raises(MemoryError):
            engine.step()
        engine.check_integrity()
    runner.failing = False
    assert_complete(drain(engine)["r", 0], generation.choices[0])
    assert_idle(engine)


class BrokenStep(ScriptedStep):
    def sample(self) -> None:
        raise MemoryError("sampling")

    def results(self) -> list[RowResult]:
        super().results()
        raise MemoryError("results")


class BreakingDown(ScriptedRunner):
    """Fails in another part of the steps it is told to."""

    broken_method: str | None = None

    def launch(self, batch: Batch) -> ScriptedStep:
        step = super().launch(batch)
        if self.broken_method is not None:
            setattr(step, self.broken_method, getattr(BrokenStep(self, batch, step.rows), self.broken_method))
            self.broken_method = None
        return step


@pytest.mark.parametrize("method", ["sample", "results"])
@pytest.mark.parametrize("look_ahead", [False, True])
def test_a_step_that_breaks_down_later_is_repeated(look_ahead: bool, method: str) -> None:
    engine, runner = build_engine_and_runner(BreakingDown, look_ahead=look_ahead)
    generations = [call(f"r{i}", list(range(i, 10)), max_tokens=6) for i in range(3)]
    for generation in generations:
        generation.choices[0].stop_token_ids = frozenset()
        engine.add(generation)
    outputs: Outputs = defaultdict(list)
    for i in range(NUM_STEPS_MAX):
        runner.broken_method = method if i % 3 == 1 else None
        try:
            stepped = engine.step()
        except MemoryError:
            stepped = []
        engine.check_integrity()
        for output in stepped:
            assert isinstance(output, TokenOutput)
            outputs[output.request_id, 0].append(output)
        if not engine.has_work():
            break
    for generation in generations:
        expected = generate_alone(generation.choices[0])
        assert tokens(outputs[generation.request_id, 0])[: len(expected)] == expected
        assert len(outputs[generation.request_id, 0]) == 6
    assert_idle(engine)


def test_steps_run_ahead_and_a_request_without_a_next_token_gets_no_row() -> None:
    engine, runner = build_engine_and_runner(ScriptedRunner, look_ahead=True)
    generation = call("r", list(range(4)), max_tokens=5)
    generation.choices[0].stop_token_ids = frozenset()
    engine.add(generation)
    outputs = drain(engine)["r", 0]
    assert len(outputs) == 5
    assert runner.batch_sizes == [4, 1, 1, 1, 1]
    assert runner.num_run_ahead == 4


def test_a_stop_token_costs_one_row_that_is_dropped() -> None:
    engine, runner = build_engine_and_runner(ScriptedRunner, look_ahead=True)
    generation = call("r", list(range(4)), max_tokens=50)
    expected = generate_alone(generation.choices[0])
    generation.choices[0].stop_token_ids = frozenset({expected[2]})
    engine.add(generation)
    outputs = drain(engine)["r", 0]
    assert tokens(outputs) == expected[: expected.index(expected[2]) + 1]
    assert len(runner.batch_sizes) == len(outputs) + 1
    assert_idle(engine)
