"""Looks at one deployment, one a second unless said otherwise, and what each decides."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.domain import AutoscalingPolicy, LoadTarget
from appliance.orchestrator.scaling import NOTHING_REMEMBERED, Load, Memory, ScalingFacts, decide, replica_share
from runtime.protocol import Heartbeat

UP_S, DOWN_S, ZERO_S = 30.0, 600.0, 3600.0
POLICY = AutoscalingPolicy(
    scale_up_window_s=UP_S,
    scale_down_window_s=DOWN_S,
    scale_to_zero_window_s=ZERO_S,
    load_targets={LoadTarget.CONCURRENT_REQUESTS: 4.0},
)
FACTS = ScalingFacts(policy=POLICY, count=1, min_replica_count=0, max_replica_count=8, load=Load(), idle_s=0.0)


class Deployment:
    """A deployment whose decisions are carried out, and the time that passes over it."""

    def __init__(self, facts: ScalingFacts = FACTS, **changes: object) -> None:
        self.facts = replace(facts, **changes)
        self.memory = NOTHING_REMEMBERED
        self.now = 0.0
        self.changes: list[tuple[float, int, str]] = []

    @property
    def count(self) -> int:
        return self.facts.count

    def look(self, elapsed_s: float = 1.0, **changes: object) -> int:
        self.facts = replace(self.facts, **changes)
        self.now += elapsed_s
        verdict = decide(self.facts, self.memory, elapsed_s)
        self.memory = verdict.memory
        assert bool(verdict.reason) == (verdict.count != self.facts.count)
        if verdict.reason:
            self.changes.append((self.now, verdict.count, verdict.reason))
        self.facts = replace(self.facts, count=verdict.count)
        return verdict.count

    def carry(self, concurrent_requests: float, seconds: float) -> int:
        """So much for so long."""
        for _ in range(round(seconds)):
            self.look(load=Load(concurrent_requests=concurrent_requests), idle_s=0.0)
        return self.count

    def rest(self, seconds: float) -> int:
        for _ in range(round(seconds)):
            idle_s = self.facts.idle_s + 1.0
            self.look(load=Load(), idle_s=idle_s)
        return self.count


def test_up_only_after_demand_stayed_above_for_the_window() -> None:
    deployment = Deployment()
    assert deployment.carry(14.2, UP_S) == 1
    assert deployment.look() == 4
    assert deployment.changes[-1][2] == "14.2 requests at once, 4 wanted per replica, more than 1 can carry for 30 s"


def test_a_dip_begins_the_window_anew() -> None:
    deployment = Deployment()
    deployment.carry(14.0, UP_S - 1)
    deployment.carry(3.0, 1)
    assert deployment.carry(14.0, UP_S) == 1
    assert deployment.carry(14.0, 1) == 4


def test_up_goes_no_further_than_demand_was_throughout_the_window() -> None:
    deployment = Deployment()
    deployment.carry(10.0, UP_S)
    assert deployment.carry(32.0, 1) == 3


def test_down_after_the_window_and_no_further_than_demand_was_throughout_it() -> None:
    deployment = Deployment(count=6)
    deployment.carry(11.0, 1)
    deployment.carry(3.0, DOWN_S - 1)
    assert deployment.count == 6
    assert deployment.carry(3.0, 1) == 3
    assert deployment.carry(3.0, DOWN_S) == 3
    assert deployment.carry(3.0, 1) == 1


def test_no_load_leads_to_one_and_only_silence_to_zero() -> None:
    deployment = Deployment(count=3)
    assert deployment.rest(DOWN_S) == 3
    assert deployment.rest(ZERO_S - DOWN_S) == 1, "the step down did not begin the silence anew"
    assert deployment.rest(1) == 0
    assert deployment.changes[-1][2] == "no request for 3600 s"


def test_a_request_within_the_window_keeps_it_however_short_it_was() -> None:
    deployment = Deployment()
    deployment.rest(ZERO_S - 1)
    deployment.look(idle_s=0.5)
    assert deployment.rest(ZERO_S - 2) == 1
    assert deployment.rest(2) == 0


def test_silence_counts_only_from_when_a_replica_could_have_been_used() -> None:
    deployment = Deployment(idle_s=math.inf)
    for _ in range(5000):
        assert deployment.look(is_starting=True) == 1
    deployment.facts = replace(deployment.facts, is_starting=False)
    assert deployment.rest(ZERO_S - 1) == 1
    assert deployment.rest(1) == 0


@pytest.mark.parametrize("bounds", [{"min_replica_count": 1}, {"scheduled_minimum": 1, "schedule_id": "office"}])
def test_never_to_zero_with_a_minimum(bounds: dict[str, Any]) -> None:
    deployment = Deployment(**bounds)
    assert deployment.rest(3 * ZERO_S) == 1
    assert not deployment.changes


def test_at_zero_it_stays_until_it_is_woken() -> None:
    deployment = Deployment(count=0, min_replica_count=2)
    assert deployment.carry(50.0, 2 * UP_S) == 0


def test_woken_below_its_minimum_it_is_raised_at_once() -> None:
    deployment = Deployment(count=1, min_replica_count=2)
    assert deployment.look() == 2
    assert deployment.changes[-1][2] == "at least 2 replicas are asked for"


def test_a_schedule_raises_at_once_even_from_zero_and_afterwards_the_window_counts() -> None:
    deployment = Deployment(count=0)
    assert deployment.look(scheduled_minimum=3, schedule_id="office") == 3
    assert deployment.changes[-1][2] == "the schedule office asks for at least 3 replicas"
    assert deployment.rest(2 * DOWN_S) == 3
    deployment.facts = replace(deployment.facts, scheduled_minimum=0, schedule_id="")
    assert deployment.rest(DOWN_S) == 3
    assert deployment.rest(1) == 1


def test_a_schedule_never_goes_beyond_the_maximum() -> None:
    assert Deployment(count=0, max_replica_count=2).look(scheduled_minimum=5, schedule_id="office") == 2


def test_a_lower_maximum_holds_at_once() -> None:
    deployment = Deployment(count=5, max_replica_count=2)
    assert deployment.look() == 2
    assert deployment.changes[-1][2] == "at most 2 replicas are allowed"


def test_the_largest_demand_of_several_targets_wins() -> None:
    targets = {
        LoadTarget.DEFAULT: 0.8,
        LoadTarget.REQUESTS_PER_SECOND: 2.0,
        LoadTarget.TOKENS_GENERATED_PER_SECOND: 100.0,
        LoadTarget.CONCURRENT_REQUESTS: 4.0,
    }
    policy = replace(POLICY, load_targets=targets, scale_up_window_s=0.0)
    load = Load(concurrent_requests=6.0, requests_per_second=3.0, tokens_generated_per_second=180.0, replica_share=0.5)
    assert Deployment(policy=policy, load=load).look() == 2
    assert Deployment(policy=policy, load=replace(load, tokens_generated_per_second=460.0)).look() == 5
    assert Deployment(policy=policy, load=replace(load, requests_per_second=5.1)).look() == 3
    full = Deployment(policy=policy, load=replace(load, replica_share=2.5))
    assert full.look() == 4
    assert full.changes[-1][2].startswith("2.50 replicas' worth of work, 0.8 wanted per replica")


def test_a_demand_of_whole_replicas_is_not_rounded_up() -> None:
    policy = replace(POLICY, load_targets={LoadTarget.DEFAULT: 0.1}, scale_up_window_s=0.0)
    assert Deployment(policy=policy, load=Load(replica_share=0.3)).look() == 3


def test_who_changes_the_count_begins_the_windows_anew() -> None:
    deployment = Deployment()
    deployment.carry(14.0, UP_S)
    deployment.facts = replace(deployment.facts, count=2)
    assert deployment.carry(14.0, UP_S) == 2
    assert deployment.carry(14.0, 1) == 4


def heartbeat(num_running: int, num_waiting: int, num_free_blocks: int, num_blocks: int = 100) -> Heartbeat:
    return Heartbeat(
        num_steps=1,
        is_busy=num_running > 0,
        num_running=num_running,
        num_waiting=num_waiting,
        num_free_blocks=num_free_blocks,
        num_blocks=num_blocks,
    )


def test_share_is_by_places_or_by_blocks_whichever_is_scarcer() -> None:
    assert replica_share([heartbeat(64, 0, 90)], 64.0, max_num_requests=256) == 0.25
    assert replica_share([heartbeat(8, 0, 40)], 8.0, max_num_requests=256) == pytest.approx(0.6)
    assert replica_share([heartbeat(8, 0, 40), heartbeat(8, 0, 20)], 16.0, 256) == pytest.approx(1.4)


def test_what_waits_in_a_worker_counts_like_what_runs_there() -> None:
    assert replica_share([heartbeat(10, 30, 0)], 40.0, max_num_requests=256) == pytest.approx(4.0)


def test_without_heartbeats_or_blocks_the_places_count() -> None:
    assert replica_share([], 128.0, max_num_requests=256) == 0.5
    assert replica_share([heartbeat(0, 0, 0, num_blocks=0)], 0.0, max_num_requests=256) == 0.0


policies = st.builds(
    AutoscalingPolicy,
    scale_up_window_s=st.sampled_from([0.0, 3.0, 30.0]),
    scale_down_window_s=st.sampled_from([0.0, 3.0, 30.0]),
    scale_to_zero_window_s=st.sampled_from([5.0, 60.0]),
    load_targets=st.dictionaries(st.sampled_from(LoadTarget), st.floats(0.1, 5.0), min_size=1),
)
loads = st.builds(
    Load,
    concurrent_requests=st.floats(0.0, 100.0),
    requests_per_second=st.floats(0.0, 100.0),
    tokens_generated_per_second=st.floats(0.0, 1e4),
    replica_share=st.floats(0.0, 20.0),
)
steps = st.tuples(loads, st.floats(0.0, 40.0), st.booleans(), st.integers(0, 12))
"""Load, time since the last look, whether there was silence, and the schedules' minimum."""


@st.composite
def facts_at_rest(draw: st.DrawFn) -> ScalingFacts:
    count_min = draw(st.integers(0, 6))
    count_max = draw(st.integers(count_min, 10))
    return ScalingFacts(
        policy=draw(policies),
        count=draw(st.integers(0, 12)),
        min_replica_count=count_min,
        max_replica_count=count_max,
        load=Load(),
        idle_s=0.0,
    )


@given(facts_at_rest(), st.lists(steps, max_size=60))
def test_bounds_hold_after_every_look_and_no_count_changes_within_its_window(
    facts: ScalingFacts, course: list[tuple[Load, float, bool, int]]
) -> None:
    memory, now, changed_at, heard_at = NOTHING_REMEMBERED, 0.0, -math.inf, 0.0
    for load, elapsed_s, is_silent, scheduled in course:
        now += elapsed_s
        before = facts.count
        heard_at = heard_at if is_silent else now
        facts = replace(facts, load=load, idle_s=math.inf if is_silent else 0.0, scheduled_minimum=scheduled)
        verdict = decide(facts, memory, elapsed_s)
        memory = verdict.memory
        lowest = min(max(facts.min_replica_count, scheduled), facts.max_replica_count)
        assert verdict.count <= facts.max_replica_count
        assert verdict.count >= lowest or (verdict.count == before == 0 and not scheduled)
        is_forced = before > facts.max_replica_count or before < lowest
        if verdict.count != before:
            policy = facts.policy
            window_s = policy.scale_up_window_s if verdict.count > before else policy.scale_down_window_s
            if verdict.count == 0 and not is_forced:
                assert now - heard_at >= policy.scale_to_zero_window_s - 1e-6
            elif not is_forced:
                assert now - changed_at >= window_s - 1e-6
            changed_at = now
        facts = replace(facts, count=verdict.count)


@given(facts_at_rest(), st.lists(loads, min_size=2, max_size=8), st.floats(0.0, 60.0), st.booleans())
def test_more_load_never_means_fewer_replicas(
    facts: ScalingFacts, course: list[Load], elapsed_s: float, is_silent: bool
) -> None:
    memory = NOTHING_REMEMBERED
    for load in course[:-1]:
        facts = replace(facts, load=load, idle_s=math.inf if is_silent else 0.0)
        verdict = decide(facts, memory, elapsed_s)
        facts, memory = replace(facts, count=verdict.count), verdict.memory
    less, more = (
        course[-1],
        Load(
            concurrent_requests=course[-1].concurrent_requests * 1.5,
            requests_per_second=course[-1].requests_per_second * 2,
            tokens_generated_per_second=course[-1].tokens_generated_per_second + 10,
            replica_share=course[-1].replica_share + 0.5,
        ),
    )
    counts = [decide(replace(facts, load=load), memory, elapsed_s).count for load in (less, more)]
    assert counts[0] <= counts[1]


@given(facts_at_rest(), st.floats(0.1, 20.0))
def test_under_steady_load_the_count_settles(facts: ScalingFacts, requests: float) -> None:
    deployment = Deployment(facts, load=Load(concurrent_requests=requests, replica_share=requests / 3), idle_s=0.0)
    for _ in range(40):
        deployment.look(elapsed_s=10.0)
    counts = [deployment.look(elapsed_s=10.0) for _ in range(20)]
    assert len(set(counts)) == 1
    steps_down = [later < earlier for (_, earlier, _), (_, later, _) in pairwise(deployment.changes)]
    assert len(set(steps_down)) <= 1, "it went one way only"


def test_memory_of_another_count_is_not_used() -> None:
    memory = Memory(count=5, above_s=1e9, least_wanted=9, quiet_s=1e9)
    facts = replace(FACTS, load=Load(concurrent_requests=40.0))
    assert decide(facts, memory, 1.0).count == 1
