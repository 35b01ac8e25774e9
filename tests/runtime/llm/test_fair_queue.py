import itertools
from collections import Counter
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.llm.fair_queue import OUTPUT_WEIGHT, PROMPT_WEIGHT, FairQueue
from runtime.llm.request import Request
from tests.fakes.scripted_runner import make_request

TENANTS = ("a", "b", "c", "d")
NUM_TOKENS_MAX = 20


def request(tenant: str, request_id: str = "r", num_tokens: int = 10) -> Request:
    made = make_request([0] * num_tokens, request_id=request_id)
    made.tenant = tenant
    return made


def take(queue: FairQueue) -> Request:
    """Start the next one, as the scheduler does."""
    taken = queue.peek()
    assert taken is not None
    queue.remove(taken)
    queue.charge_prompt(taken.tenant, len(taken.prompt_token_ids))
    return taken


def fill(queue: FairQueue, *requests: Request) -> None:
    for each in requests:
        queue.append(each)


def drain(queue: FairQueue) -> list[str]:
    return [take(queue).request_id for _ in range(len(queue))]


def test_one_tenant_is_first_come_first_served() -> None:
    queue = FairQueue()
    fill(queue, *(request("a", str(i), num_tokens=20 - i) for i in range(5)))
    assert drain(queue) == ["0", "1", "2", "3", "4"]
    assert queue.peek() is None


def test_the_least_served_tenant_is_next_and_of_equals_who_waits_longest() -> None:
    queue = FairQueue()
    fill(queue, request("b", "b1", 30), request("b", "b2", 10), request("a", "a1"), request("a", "a2"))
    fill(queue, request("a", "a3"), request("a", "a4"))
    assert drain(queue) == ["b1", "a1", "a2", "a3", "b2", "a4"]


def test_output_counts_more_than_prompt() -> None:
    queue = FairQueue()
    fill(queue, *(request(tenant, tenant) for tenant in "ab"))
    queue.charge_prompt("a", OUTPUT_WEIGHT)
    queue.charge_output("b", PROMPT_WEIGHT + 1)
    assert drain(queue) == ["a", "b"]


def test_being_idle_saves_up_nothing_and_being_served_is_not_forgotten() -> None:
    queue = FairQueue()
    fill(queue, request("busy", "x"), request("busy", "busy"))
    take(queue)
    queue.charge_output("busy", 500)
    fill(queue, request("new", "n1"), request("new", "n2"))
    assert queue.counters() == {"busy": 1010, "new": 1010}
    assert drain(queue) == ["busy", "n1", "n2"]
    # `busy` has 1020, `new` 1030: both are remembered while the other may come back below them.
    fill(queue, request("late", "l"), request("busy", "b"))
    assert queue.counters() == {"late": 1030, "busy": 1030}


def test_preempted_requests_are_next_and_put_first_ones_only_within_their_tenant() -> None:
    queue = FairQueue()
    fill(queue, request("a", "a"), request("b", "b"))
    queue.charge_prompt("a", 5)
    queue.put_first([request("a", "a-first"), request("a", "a-second")])
    queue.put_first([])
    for request_id in ("young", "old"):
        queue.give_back(request("a", request_id))
    assert len(queue) == len(list(queue)) == 6
    assert drain(queue) == ["old", "young", "b", "a-first", "a-second", "a"]


def test_tenants_that_left_long_ago_are_forgotten() -> None:
    queue = FairQueue()
    for i in range(100):
        fill(queue, request(f"tenant {i}"))
        take(queue)
    assert len(queue.counters()) <= 2


class Wait(NamedTuple):
    """One tenant's time in the queue since it last was given anything."""

    level: int
    counters: dict[str, int]
    """Of all, when it began."""
    started: Counter[str]
    """Prompt tokens of others that were started since."""


class FairQueueMachine(RuleBasedStateMachine):
    """Tenants come and go, requests run, decode, are preempted or leave."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue()
        self.running: list[Request] = []
        self.arrivals = itertools.count()
        self.waits: dict[str, Wait] = {}
        self.level = 0

    @rule(tenant=st.sampled_from(TENANTS), num_tokens=st.integers(1, NUM_TOKENS_MAX), count=st.integers(1, 4))
    def arrive(self, tenant: str, num_tokens: int, count: int) -> None:
        for _ in range(count):
            self.queue.append(request(tenant, f"{next(self.arrivals):06}", num_tokens))
        if tenant not in self.waits:
            self.begin_wait(tenant)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def start(self) -> None:
        taken = self.queue.peek()
        assert taken is not None
        self.queue.remove(taken)
        if taken.num_preemptions == 0:
            assert all(taken.request_id < later.request_id for later in self.waiting_of(taken.tenant))
            self.queue.charge_prompt(taken.tenant, len(taken.prompt_token_ids))
            for wait in self.waits.values():
                wait.started[taken.tenant] += len(taken.prompt_token_ids)
        self.running.append(taken)
        self.begin_wait(taken.tenant)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 5))
    def decode(self, data: st.DataObject, count: int) -> None:
        tenant = data.draw(st.sampled_from(self.running)).tenant
        self.queue.charge_output(tenant, count)
        self.begin_wait(tenant)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.running.remove(data.draw(st.sampled_from(self.running)))

    @precondition(lambda self: self.running)
    @rule()
    def preempt(self) -> None:
        youngest = self.running.pop()
        youngest.num_preemptions += 1
        self.queue.give_back(youngest)

    @precondition(lambda self: len(self.queue) > 0)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        left = data.draw(st.sampled_from(list(self.queue)))
        self.queue.remove(left)
        if not self.waiting_of(left.tenant):
            self.waits.pop(left.tenant, None)

    def waiting_of(self, tenant: str) -> list[Request]:
        return [each for each in self.queue if each.tenant == tenant and each.num_preemptions == 0]

    def begin_wait(self, tenant: str) -> None:
        self.waits.pop(tenant, None)
        if self.waiting_of(tenant):
            self.waits[tenant] = Wait(self.queue._level(), self.queue.counters(), Counter())

    @invariant()
    def the_level_never_falls(self) -> None:
        level = self.queue._level()
        assert level >= self.level
        self.level = level

    @invariant()
    def whoever_waits_has_a_counter_no_lower_than_the_level(self) -> None:
        counters = self.queue.counters()
        assert all(counters[tenant] >= self.level for tenant in self.waits)

    @invariant()
    def nobody_starves(self) -> None:
        """While a tenant waits another may make up for what it was behind, and take one prompt more."""
        for tenant, wait in self.waits.items():
            for other, num_tokens in wait.started.items():
                behind = max(0, wait.counters[tenant] - wait.counters.get(other, wait.level))
                assert PROMPT_WEIGHT * num_tokens <= behind + PROMPT_WEIGHT * NUM_TOKENS_MAX


FairQueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFairQueueMachine = FairQueueMachine.TestCase
