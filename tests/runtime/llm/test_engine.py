from collections import defaultdict
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.engine import RequestRefused
from runtime.llm.engine import LlmEngine
from runtime.llm.request import Batch, Generation, Request, RequestFailed, TokenOutput
from runtime.message import FailureCode
from tests.fakes.fake_clock import FakeClock
from tests.fakes.scripted_runner import STOP_TOKEN_ID, ScriptedRunner, ScriptedStep, generate_alone, make_request

NUM_STEPS_MAX = 5000
BLOCK_SIZE = 4
Outputs = dict[tuple[str, int], list[TokenOutput]]
RunnerT = TypeVar("RunnerT", bound=ScriptedRunner)

# Few tokens and a common start, so that prefixes meet.
prompts = st.one_of(
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.integers(1, 40).map(lambda num_tokens: [token_id % 3 for token_id in range(num_tokens)]),
)
namespaces = st.sampled_from([b"", b"a", b"b"])


def build_engine_and_runner(
    kind: type[RunnerT],
    *,
    num_blocks: int = 64,
    max_num_requests: int = 8,
    max_num_waiting: int = 200,
    max_num_waiting_tokens: int = 10_000,
    max_batch_tokens: int = 16,
    enable_prefix_cache: bool = True,
    look_ahead: bool = False,
    clock: Callable[[], float] = monotonic,
) -> tuple[LlmEngine, RunnerT]:
    runner = kind(num_blocks, BLOCK_SIZE, max_num_requests=max_num_requests, max_batch_tokens=max_batch_tokens)
    engine = LlmEngine(
        runner,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        max_num_requests=max_num_requests,
        max_num_waiting=max_num_waiting,
        max_num_waiting_tokens=max_num_waiting_tokens,
        max_batch_tokens=max_batch_tokens,
        enable_prefix_cache=enable_prefix_cache,
        cache_root=b"model",
        look_ahead=look_ahead,
        clock=clock,
    )
    return engine, runner


def build_engine(**settings: Any) -> LlmEngine:
    return build_engine_and_runner(ScriptedRunner, **settings)[0]


def call(request_id: str, prompt: list[int], *, n: int = 1, max_tokens: int = 16, namespace: bytes = b"") -> Generation:
    choices = [
        make_request(prompt, request_id=request_id, index=i, seed=i, max_tokens=max_tokens, cache_namespace=namespace)
        for i in range(n)
    ]
    return Generation(request_id, choices)


def drain(engine: LlmEngine) -> Outputs:
    """Step to the end, checking all bookkeeping after every step."""
    outputs: Outputs = defaultdict(list)
    for _ in range(NUM_STEPS_MAX):
        if not engine.has_work():
            return outputs
        for output in engine.step():
            assert isinstance(output, TokenOutput)
            outputs[output.request_id, output.index].append(output)
        engine.check_integrity()
    raise AssertionError("the engine makes no progress")


def tokens(outputs: list[TokenOutput]) -> list[int]:
    return [output.token_id for output in outputs]


def assert_idle(engine: LlmEngine) -> None:
    stats = engine.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_free_blocks) == (0, 0, stats.num_blocks)


def assert_complete(outputs: list[TokenOutput], request: Request) -> None:
    expected = generate_alone(request)
    assert tokens(outputs) == expected
    assert [output.finish_reason for output in outputs[:-1]] == [None] * (len(expected) - 1)
    assert outputs[-1].finish_reason == ("stop" if expected[-1] == STOP_TOKEN_ID else "length")


@pytest.mark.parametrize("max_batch_tokens", [1, 3, 7, 64])
@pytest.mark.parametrize("enable_prefix_cache", [False, True])
@pytest.mark.parametrize("num_blocks", [16, 200])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.lists(st.tuples(prompts, st.integers(1, 3), namespaces), min_size=1, max_size=8))
def test_output_is_the_same_alone_and_in_any_batch(
    max_batch_tokens: int,
    enable_prefix_cache: bool,
    num_blocks: int,
    look_ahead: bool,
    calls: list[tuple[list[int], int, bytes]],
) -> None:
    engine = build_engine(
        num_blocks=num_blocks,
        max_batch_tokens=max_batch_tokens,
        enable_prefix_cache=enable_prefix_cache,
        look_ahead=look_ahead,
    )
    generations = [call(f"r{i}", prompt, n=n, namespace=namespace) for i, (prompt, n, namespace) in enumerate(calls)]
    for generation in generations:
        engine.add(generation)
    outputs = drain(engine)
    for generation in generations:
        for request in generation.choices:
            assert_complete(outputs[request.request_id, request.index], request)
    assert_idle(engine)


def test_a_repeated_prompt_computes_only_its_last_block() -> None:
    engine = build_engine()
    prompt = list(range(3 * BLOCK_SIZE))
    engine.add(call("first", prompt, max_tokens=1))
    engine.add(call("other namespace", prompt, max_tokens=1, namespace=b"other"))
    first = drain(engine)
    assert {outputs[0].num_cached_tokens for outputs in first.values()} == {0}
    engine.add(call("same", prompt, max_tokens=1))
    engine.add(call("longer", [*prompt, 1, 2], max_tokens=1))
    engine.add(call("diverging", [*prompt[:5], 0, 0, 0, 0], max_tokens=1))
    cached = {request_id: outputs[0].num_cached_tokens for (request_id, _), outputs in drain(engine).items()}
    assert cached == {"same": 2 * BLOCK_SIZE, "longer": 3 * BLOCK_SIZE, "diverging": BLOCK_SIZE}


@pytest.mark.parametrize("n", [1, 3])
def test_cached_counts_are_what_was_taken_by_the_first_to_run(n: int) -> None:
    engine = build_engine(max_batch_tokens=8)
    prompt = list(range(14))
    engine.add(call("first", prompt, max_tokens=1))
    drain(engine)
    for most, expected in [(0, 0), (7, 4), (None, 12)]:
        generation = call(f"at most {most}", prompt, n=n, max_tokens=1)
        for choice in generation.choices:
            choice.cache_max_tokens = most
        engine.add(generation)
        outputs = drain(engine)
        cached = [outputs[generation.request_id, i][0].num_cached_tokens for i in range(n)]
        assert cached == [expected] + [12] * (n - 1), "what siblings take is the call's own"


def test_a_conversation_finds_the_generated_tokens_too() -> None:
    engine = build_engine()
    turn = call("turn 1", list(range(10)), max_tokens=8)
    engine.add(turn)
    history = turn.choices[0].prompt_token_ids + tokens(drain(engine)["turn 1", 0])
    engine.add(call("turn 2", [*history, 1, 2, 3]))
    # The last token of a turn was only returned, never computed.
    assert drain(engine)["turn 2", 0][0].num_cached_tokens == (len(history) - 1) // BLOCK_SIZE * BLOCK_SIZE


def test_without_the_prefix_cache_calls_share_nothing() -> None:
    engine = build_engine(enable_prefix_cache=False)
    for request_id in ("first", "second"):
        engine.add(call(request_id, list(range(12)), n=3))
        outputs = drain(engine)
        assert [outputs[request_id, i][0].num_cached_tokens for i in range(3)] == [0, 8, 8], "only of each other"


def test_tokens_are_counted_once_for_all_choices_of_a_call() -> None:
    engine = build_engine(num_blocks=16)
    prompt = list(range(20, 20 + 3 * BLOCK_SIZE + 1))
    num_generated = 0
    for request_id, n in [("a", 1), ("b", 3)]:
        engine.add(call(request_id, prompt, n=n, max_tokens=40))
        num_generated += sum(map(len, drain(engine).values()))
    stats = engine.stats()
    assert stats.num_prompt_tokens == 2 * len(prompt)
    assert stats.num_cached_tokens == 3 * BLOCK_SIZE
    assert stats.num_generated_tokens == num_generated


def test_choices_share_the_blocks_of_their_prompt() -> None:
    engine, runner = build_engine_and_runner(ScriptedRunner, max_batch_tokens=8)
    generation = call("r", list(range(10)), n=3, max_tokens=2)
    for choice in generation.choices:
        choice.stop_token_ids = frozenset()
    engine.add(generation)
    outputs = drain(engine)
    # 8 and 2 tokens by the first choice, whose prompt the others wait for; they add the unshared rest, then all decode.
    assert runner.batch_sizes == [8, 2, 1 + 2 + 2, 1 + 1]
    assert [outputs["r", i][0].num_cached_tokens for i in range(3)] == [0, 8, 8]


@pytest.mark.parametrize("enable_prefix_cache", [False, True])
def test_a_hundred_and_twenty_eight_choices_compute_their_prompt_once(enable_prefix_cache: bool) -> None:
    engine, runner = build_engine_and_runner(
        ScriptedRunner,
        num_blocks=1 + 25 + 3 * 128,
        max_num_requests=128,
        max_batch_tokens=64,
        enable_prefix_cache=enable_prefix_cache,
    )
    generation = call("r", [i % 7 for i in range(101)], n=128, max_tokens=4)
    for choice in generation.choices:
        choice.stop_token_ids = frozenset()
    engine.add(generation)
    assert len(drain(engine)) == 128
    # The prompt, its last token for everybody else, and each one's output but the last token.
    assert sum(runner.batch_sizes) == 101 + 127 + 128 * 3
    assert not any(choice.num_preemptions for choice in generation.choices)


@pytest.mark.parametrize("num_tokens", [3, 4, 5, 16, 19])
def test_many_choices_end_in_a_pool_that_holds_hardly_one(num_tokens: int) -> None:
    engine = build_engine(num_blocks=1 + 6, max_num_requests=8)
    generation = call("r", list(range(num_tokens)), n=24, max_tokens=5)
    engine.add(generation)
    outputs = drain(engine)
    for choice in generation.choices:
        assert_complete(outputs["r", choice.index], choice)
    assert_idle(engine)


@pytest.mark.parametrize("num_steps", [0, 1])
def test_choices_go_on_when_the_first_is_aborted_before_its_prompt_is_computed(num_steps: int) -> None:
    engine = build_engine(max_batch_tokens=4)
    generation = call("r", list(range(10)), n=3)
    engine.add(generation)
    for _ in range(num_steps):
        assert engine.step() == []
    engine.abort("r", 0)
    outputs = drain(engine)
    assert ("r", 0) not in outputs
    for choice in generation.choices[1:]:
        assert_complete(outputs["r", choice.index], choice)


def test_preempted_requests_resume_to_the_same_output() -> None:
    engine = build_engine(num_blocks=10, max_batch_tokens=64)
    generations = [call(f"r{i}", [i] * 10, max_tokens=20) for i in range(3)]
    for generation in generations:
        generation.choices[0].stop_token_ids = frozenset()
        engine.add(generation)
    outputs = drain(engine)
    assert sum(generation.choices[0].num_preemptions for generation in generations) > 0
    assert generations[0].choices[0].num_preemptions == 0, "the oldest is never preempted"
    for generation in generations:
        expected = generate_alone(generation.choices[0])
        assert tokens(outputs[generation.request_id, 0])[: len(expected)] == expected
        assert outputs[generation.request_id, 0][0].num_cached_tokens == 0


def test_abort_takes_effect_before_the_next_step_in_any_state() -> None:
    engine = build_engine(max_num_requests=2, max_batch_tokens=8)
    engine.add(call("decoding", [1, 2, 3]))
    engine.step()
    engine.add(call("prefilling", [1] * 30))
    engine.step()
    engine.add(call("waiting", [1, 2], n=2))
    assert engine.stats()[:2] == (2, 2)
    for request_id in ("decoding", "prefilling", "waiting", "unknown", "waiting"):
        engine.abort(request_id)
        engine.check_integrity()
    assert not engine.has_work()
    assert_idle(engine)


def test_a_request_that_can_never_fit_is_refused() -> None:
    engine = build_engine(num_blocks=5)
    engine.add(call("fits", [0] * 12, max_tokens=5))
    with pytest.raises(RequestRefused) as refusal:
        engine.add(call("too long", [0] * 12, max_tokens=6))
    assert refusal.value.code is FailureCode.INVALID
    assert drain(engine).keys() == {("fits", 0)}


def test_a_full_queue_refuses_as_overloaded() -> None:
    engine = build_engine(max_num_waiting=4)
    engine.add(call("first", [1] * 9, n=2))
    for tenant, n, code in [("", 1, FailureCode.RATE_LIMITED), ("other", 3, FailureCode.OVERLOADED)]:
        generation = call("refused", [1], n=n)
        generation.choices[0].tenant = tenant
        with pytest.raises(RequestRefused) as refusal:
            engine.add(generation)
        assert refusal.value.code is code
        assert refusal.value.retry_after_s is not None
    generation = call("third", [1])
    generation.choices[0].tenant = "other"
    engine.add(generation)
    assert {request_id for request_id, _ in drain(engine)} == {"first", "third"}


class BrokenDevice(ScriptedRunner):
    """Fails the steps it is told to."""

    failing = False

    def launch(self, batch: Batch) -> ScriptedStep:
        if self.failing:
            raise MemoryError("device")
        return super().launch(batch)


def test_what_the_device_raises_goes_through_and_the_step_can_be_repeated() -> None:
    engine, runner = build_engine_and_runner(BrokenDevice)
    generation = call("r", list(range(40)))
    engine.add(generation)
    engine.step()
    runner.failing = True
    for _ in range(2):
        with pytest.raises(MemoryError):
            engine.step()
        engine.check_integrity()
    runner.failing = False
    assert_complete(drain(engine)["r", 0], generation.choices[0])


class UnhashableToken(ScriptedRunner):
    """Gives one request a token that no 32-bit digest can cover: the engine's own work on it raises."""

    def choose(self, request: Request, state: int) -> int:
        return 2**40 if request.request_id == "bad" else super().choose(request, state)


def test_a_request_whose_own_work_raises_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine, _ = build_engine_and_runner(UnhashableToken)
    good = call("good", [1, 2, 3], max_tokens=12)
    engine.add(call("bad", [1, 2, 3], n=2, max_tokens=12))
    engine.add(good)
    outputs = []
    while engine.has_work():
        outputs += engine.step()
        engine.check_integrity()
    assert [output for output in outputs if isinstance(output, RequestFailed)] == [RequestFailed("bad")]
    assert_complete([o for o in outputs if isinstance(o, TokenOutput) and o.request_id == "good"], good.choices[0])
    assert "request bad failed" in caplog.text
    assert_idle(engine)


def test_a_request_that_cannot_be_queued_is_refused_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = build_engine()
    with pytest.raises(RequestRefused) as refusal:
        engine.add(call("bad", [2**40] * 10))
    assert refusal.value.code is FailureCode.INTERNAL
    assert "bad" in caplog.text
    assert not engine.has_work()
    assert_idle(engine)


def test_the_last_token_tells_how_long_the_request_waited_and_was_computed() -> None:
    clock = FakeClock()
    engine, _ = build_engine_and_runner(ScriptedRunner, max_num_requests=1, clock=clock)
    first, second = (call(request_id, [1, 2, 3], max_tokens=3) for request_id in ("first", "second"))
    for generation in (first, second):
        generation.choices[0].stop_token_ids = frozenset()
        engine.add(generation)
    second.choices[0].is_watched = True
    outputs: Outputs = defaultdict(list)
    while engine.has_work():
        clock.advance(1.0)
        for output in engine.step():
            assert isinstance(output, TokenOutput)
            outputs[output.request_id, output.index].append(output)
    assert [output.performance is not None for output in outputs["first", 0]] == [False, False, True]
    assert [output.performance is not None for output in outputs["second", 0]] == [True, True, True]
    told = outputs["second", 0][-1].performance
    assert told is not None
    # Three steps of the first one, and then its own; no time passes within a step of this clock.
    assert (told.prefill_queue_s, told.prefill_s, told.generation_queue_s, told.generation_s) == (4.0, 0.0, 0.0, 2.0)
    assert (told.num_concurrent_requests, told.num_predicted_tokens, told.num_drafted_tokens) == (1, 0, 0)


class EngineMachine(RuleBasedStateMachine):
    """Calls come, leave and lose choices at any moment; whatever stays must end as if it had been alone."""

    @initialize(
        num_blocks=st.sampled_from([12, 20, 60]),
        max_num_requests=st.sampled_from([1, 2, 5, 16]),
        max_batch_tokens=st.sampled_from([1, 3, 7, 64]),
        enable_prefix_cache=st.booleans(),
        look_ahead=st.booleans(),
    )
    def build(
        self, num_blocks: int, max_num_requests: int, max_batch_tokens: int, enable_prefix_cache: bool, look_ahead: bool
    ) -> None:
        self.engine = build_engine(
            num_blocks=num_blocks,
            max_num_requests=max_num_requests,
            max_batch_tokens=max_batch_tokens,
            enable_prefix_cache=enable_prefix_cache,
            look_ahead=look_ahead,
        )
        self.requests: dict[tuple[str, int], Request] = {}
        self.aborted: set[tuple[str, int]] = set()
        self.outputs: Outputs = defaultdict(list)
        self.num_calls = 0

    @rule(prompt=prompts, n=st.integers(1, 4), max_tokens=st.integers(1, 5), namespace=namespaces)
    def add(self, prompt: list[int], n: int, max_tokens: int, namespace: bytes) -> None:
        self.num_calls += 1
        generation = call(f"r{self.num_calls}", prompt, n=n, max_tokens=max_tokens, namespace=namespace)
        self.requests |= {(request.request_id, request.index): request for request in generation.choices}
        self.engine.add(generation)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), is_whole=st.booleans())
    def abort(self, data: st.DataObject, is_whole: bool) -> None:
        request_id, index = data.draw(st.sampled_from(sorted(self.requests)))
        self.engine.abort(request_id, None if is_whole else index)
        self.aborted |= {key for key in self.requests if key[0] == request_id and (is_whole or key[1] == index)}

    @rule(num_steps=st.integers(1, 5))
    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            if self.engine.has_work():
                self.take(self.engine.step())
                self.engine.check_integrity()

    def take(self, outputs: list[TokenOutput | RequestFailed]) -> None:
        for output in outputs:
            assert isinstance(output, TokenOutput)
            assert (output.request_id, output.index) not in self.aborted
            self.outputs[output.request_id, output.index].append(output)

    @invariant()
    def bookkeeping_agrees(self) -> None:
        self.engine.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for key, outputs in drain(self.engine).items():
            self.outputs[key] += outputs
        for key, request in self.requests.items():
            if key in self.aborted:
                assert tokens(self.outputs[key]) == generate_alone(request)[: len(self.outputs[key])]
            else:
                assert_complete(self.outputs[key], request)
        assert_idle(self.engine)


EngineMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestEngineMachine = EngineMachine.TestCase
