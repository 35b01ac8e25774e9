import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.services.loads import KEPT_S, SAMPLES_PER_SECOND, Loads
from runtime.message import Used
from runtime.protocol import Delta, Performance, Usage
from runtime.tasks.embedding import Embedded
from tests.fakes.fake_clock import FakeClock

FAST, SLOW = "accounts/acme/deployments/fast", "accounts/acme/deployments/slow"
SPENT = Performance(
    tokenizer_queue_s=0.0,
    tokenizer_s=0.0,
    prefill_queue_s=0.25,
    prefill_s=0.5,
    generation_queue_s=0.125,
    generation_s=1.0,
    num_concurrent_requests=1,
    num_drafted_tokens=10,
    num_accepted_tokens=4,
)


class World:
    def __init__(self) -> None:
        self.clock, self.wall = FakeClock(1000.0), FakeClock()
        self.loads = Loads(self.clock, self.wall)

    def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def answer(self, num_tokens: int = 4, first_token_s: float = 0.0, rest_s: float = 0.0) -> None:
        with self.loads.request(FAST) as request:
            self.pass_(first_token_s)
            request.count([Delta(request_id="r", token_ids=[1] * num_tokens)])
            self.pass_(rest_s)
            usage = Usage(num_prompt_tokens=10, num_cached_tokens=6, num_completion_tokens=num_tokens)
            request.count([Delta(request_id="r", finish_reason="stop", usage=usage, performance=SPENT)])


@pytest.fixture
def world() -> World:
    return World()


def test_requests_at_once_are_averaged_over_the_window(world: World) -> None:
    with world.loads.request(FAST):
        world.pass_(5.0)
        with world.loads.request(FAST):
            assert world.loads.num_in_flight(FAST) == 2
            world.pass_(5.0)
    assert world.loads.num_in_flight(FAST) == 0
    assert world.loads.window(FAST, 10.0).concurrent_requests == pytest.approx(1.5)
    assert world.loads.window(FAST, 5.0).concurrent_requests == pytest.approx(2.0)
    world.pass_(10.0)
    assert world.loads.window(FAST, 10.0).concurrent_requests == pytest.approx(0.0)
    assert world.loads.window(FAST, 20.0).concurrent_requests == pytest.approx(0.75)


def test_a_request_that_runs_for_long_counts_although_nothing_happens(world: World) -> None:
    with world.loads.request(FAST):
        world.pass_(3 * KEPT_S)
        assert world.loads.window(FAST, 10.0).concurrent_requests == pytest.approx(1.0)
        assert world.loads.window(FAST, KEPT_S).concurrent_requests == pytest.approx(1.0)


def test_an_answer_in_pieces_counts_its_prompts_and_its_first_piece(world: World) -> None:
    piece = Embedded(request_id="r", first_index=0, num_columns=1, values=b"", used=Used(num_prompt_tokens=7))
    with world.loads.request(FAST) as request:
        world.pass_(1.0)
        request.count_pieces([piece, piece])
        world.pass_(2.0)
        request.count_pieces([piece])
    window = world.loads.window(FAST, 10.0)
    assert (window.num_prompt_tokens, window.num_generated_tokens) == (21, 0)
    (times,) = window.samples
    assert (times.first_token_s, times.latency_s, times.num_prompt_tokens) == pytest.approx((1.0, 3.0, 21))


def test_counts_and_tokens_of_a_window(world: World) -> None:
    for _ in range(3):
        world.answer(num_tokens=5, rest_s=1.0)
    world.pass_(20.0)
    world.answer(num_tokens=7)
    recent, whole = world.loads.window(FAST, 10.0), world.loads.window(FAST, 60.0)
    assert (recent.num_begun, recent.num_answered, recent.num_generated_tokens) == (1, 1, 7)
    assert (whole.num_begun, whole.num_answered, whole.num_generated_tokens) == (4, 4, 22)
    assert (whole.num_prompt_tokens, whole.num_cached_tokens) == (40, 24)
    assert (whole.num_drafted_tokens, whole.num_accepted_tokens) == (40, 16)


def test_tokens_count_when_they_come_and_not_when_the_answer_ends(world: World) -> None:
    with world.loads.request(FAST) as request:
        request.count([Delta(request_id="r", token_ids=[1, 2, 3])])
        assert world.loads.window(FAST, 1.0).num_generated_tokens == 3


def test_times_of_an_answer(world: World) -> None:
    world.answer(num_tokens=8, first_token_s=0.5, rest_s=1.5)
    (sample,) = world.loads.window(FAST, 10.0).samples
    assert (sample.latency_s, sample.first_token_s, sample.num_generated_tokens) == (2.0, 0.5, 8)
    assert (sample.prefill_queue_s, sample.prefill_s, sample.generation_queue_s) == (0.25, 0.5, 0.125)


def test_errors_are_failures_and_clients_that_leave_are_not(world: World) -> None:
    for error in (HearthError(Code.UNAVAILABLE, "no replica"), GeneratorExit()):
        with pytest.raises(type(error)), world.loads.request(FAST):
            raise error
    window = world.loads.window(FAST, 10.0)
    assert (window.num_begun, window.num_answered, window.num_failed) == (2, 0, 1)
    assert world.loads.num_in_flight(FAST) == 0


def test_idle_is_since_the_end_of_the_last_request(world: World) -> None:
    assert world.loads.idle_s(FAST) == math.inf
    with world.loads.request(FAST):
        world.pass_(7.0)
        assert world.loads.idle_s(FAST) == 0.0
    world.pass_(3.0)
    assert world.loads.idle_s(FAST) == 3.0
    assert world.loads.idle_s(SLOW) == math.inf


def test_times_of_last_use_are_given_out_once_by_the_walls_clock(world: World) -> None:
    world.answer()
    used_at = world.wall.now
    world.pass_(60.0)
    assert world.loads.last_used_at(FAST) == used_at
    assert world.loads.take_used() == {FAST: used_at}
    assert world.loads.take_used() == {}
    with world.loads.request(FAST):
        world.pass_(60.0)
        assert world.loads.take_used() == {FAST: world.wall.now}, "it is in use"
        assert world.loads.last_used_at(FAST) == world.wall.now


def test_times_that_could_not_be_stored_come_again_unless_newer_ones_are_there(world: World) -> None:
    world.answer()
    used = world.loads.take_used()
    world.loads.put_back_used(used)
    assert world.loads.take_used() == used
    world.pass_(1.0)
    world.answer()
    world.loads.put_back_used(used | {SLOW: 1.0})
    assert world.loads.take_used() == {FAST: world.wall.now, SLOW: 1.0}


def test_times_of_last_use_move_with_a_clock_that_jumps(world: World) -> None:
    world.answer()
    used_at = world.wall.now
    world.loads.move_used(3600.0)
    assert world.loads.last_used_at(FAST) == used_at + 3600.0
    assert world.loads.take_used() == {FAST: used_at + 3600.0}


def test_deployments_that_are_gone_are_forgotten_once_their_requests_have_ended(world: World) -> None:
    with world.loads.request(FAST):
        world.loads.forget_all_but([SLOW])
        assert world.loads.num_in_flight(FAST) == 1
    world.loads.forget_all_but([SLOW])
    assert world.loads.idle_s(FAST) == math.inf


def test_memory_is_bounded_however_much_happens(world: World) -> None:
    for _ in range(3 * SAMPLES_PER_SECOND):
        world.answer()
    window = world.loads.window(FAST, 10.0)
    assert (window.num_answered, len(window.samples)) == (3 * SAMPLES_PER_SECOND, SAMPLES_PER_SECOND)
    for _ in range(2 * KEPT_S):
        world.answer(rest_s=1.0)
    whole = world.loads.window(FAST, 1e9)
    assert whole.num_answered == pytest.approx(KEPT_S, abs=2)
    assert sys.getsizeof(whole.samples) < 100 * KEPT_S


events = st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=40)


@given(events, st.integers(1, 30))
def test_the_average_equals_a_plain_count_of_busy_seconds(course: list[tuple[bool, float]], seconds: int) -> None:
    world = World()
    open_requests, intervals = [], []
    for is_begin, pause_s in course:
        if is_begin:
            request = world.loads.request(FAST)
            request.__enter__()
            open_requests.append((world.clock.now, request))
        elif open_requests:
            began_at, request = open_requests.pop()
            request.__exit__(None, None, None)
            intervals.append((began_at, world.clock.now))
        world.pass_(pause_s)
    now = world.clock.now
    intervals += [(began_at, now) for began_at, _ in open_requests]
    begins_at = math.floor(now - seconds)
    busy_s = sum(max(0.0, end - max(begin, begins_at)) for begin, end in intervals)
    window = world.loads.window(FAST, seconds)
    assert window.concurrent_requests * window.span_s == pytest.approx(busy_s, abs=1e-6)
