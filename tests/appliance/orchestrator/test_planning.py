import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import GIB, FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import (
    Action,
    DeploymentFact,
    Evict,
    Fleet,
    Grant,
    Priority,
    ReplicaFact,
    Sleep,
    Start,
    Stop,
    Wake,
    Yield,
)
from appliance.orchestrator.planning import plan_fleet
from tests.appliance.orchestrator.fleet_samples import NOW, SETTINGS, claim, demand, deployment, fleet, replica
from tests.fakes.fake_gpus import fake_device

ACME = "accounts/acme/deployments/"
URGENT_S = SETTINGS.max_wait_s - 10
"""So long a wait is nearly over."""


def plan(world: Fleet) -> list[Action]:
    return list(plan_fleet(world, SETTINGS).actions)


def waiter(name: str = "waiter", waited_s: float = 5, **changes: Any) -> DeploymentFact:
    return deployment(name, waiting_since=NOW - waited_s, **changes)


def kinds(actions: Sequence[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def stopped(actions: Sequence[Action]) -> list[str]:
    return [action.deployment.removeprefix(ACME) for action in actions if isinstance(action, Stop | Sleep)]


# ---- starting


def test_nothing_is_done_when_all_is_as_desired() -> None:
    assert plan(fleet(deployment("d", replica()), deployment("zero", desired=0))) == []


def test_what_is_missing_starts_where_it_fits_tightest() -> None:
    devices = [fake_device(0), fake_device(1)]
    world = fleet(deployment("d", replica(20, (1,))), waiter(), devices=devices)
    assert plan(world) == [Start(f"{ACME}waiter", 0, ("simulated-1",), 60 * GIB)]


def test_indexes_in_use_are_not_given_twice() -> None:
    world = fleet(deployment("d", replica(10, index=1), desired=3, gigabytes=10))
    assert [action.index for action in plan(world) if isinstance(action, Start)] == [0, 2]


def test_one_whose_devices_are_held_for_others_moves_when_there_is_another_place() -> None:
    devices = [fake_device(0), fake_device(1)]
    elsewhere = msgspec.structs.replace(demand(60), device_ids=("simulated-1",))
    world = fleet(deployment("d", replica(is_displaced=True), demands=(elsewhere,)), devices=devices)
    assert plan(world) == [Start(f"{ACME}d", 1, ("simulated-1",), 60 * GIB)]


def test_one_whose_devices_are_held_for_others_stops_when_there_is_no_other_place() -> None:
    world = fleet(deployment("d", replica(is_displaced=True, num_in_flight=2), demands=(), blocked_reason="all held"))
    planned = plan_fleet(world, SETTINGS)
    assert planned.actions == (Stop(f"{ACME}d", 0, None, "its devices are reserved for another account"),)
    assert planned.waiting[f"{ACME}d"].reason == "all held"


def test_a_replica_that_spans_devices_is_placed_on_all_of_them() -> None:
    devices = [fake_device(0), fake_device(1)]
    world = fleet(waiter(demands=(demand(70, count=2),)), devices=devices)
    assert plan(world) == [Start(f"{ACME}waiter", 0, ("simulated-0", "simulated-1"), 70 * GIB)]


def test_first_come_first_placed_and_priority_before_that() -> None:
    facts = [waiter("serverless", 50, priority=Priority.SERVERLESS), waiter("young", 2), waiter("old", 9)]
    starts = [action.deployment for action in plan(fleet(*facts)) if isinstance(action, Start)]
    assert starts == [f"{ACME}old"]


def test_a_blocked_deployment_is_not_started() -> None:
    assert plan(fleet(waiter(blocked_reason="its model is not there"))) == []


# ---- who makes room


def test_an_idle_replica_makes_room_and_its_deployment_wants_one_less() -> None:
    assert plan(fleet(deployment("idle", replica()), waiter())) == [
        Evict(f"{ACME}idle", 0, f"made room for {ACME}waiter"),
        Stop(f"{ACME}idle", 0, None, f"made room for {ACME}waiter"),
    ]


def test_serverless_ones_go_first() -> None:
    devices = [fake_device(0), fake_device(1)]
    used = deployment("serverless", replica(60, (1,), idle_since=NOW - 1), priority=Priority.SERVERLESS)
    world = fleet(deployment("idle", replica()), used, waiter(), devices=devices)
    assert stopped(plan(world)) == ["serverless"]


@pytest.mark.parametrize(
    "holder",
    [
        deployment("pinned", replica(), is_pinned=True),
        deployment("guaranteed", replica(), min_replica_count=1),
        deployment("new", replica(ready_at=NOW - 59)),
        deployment("loading", replica(state=ReplicaState.LOADING)),
    ],
)
def test_some_are_never_evicted_however_long_others_wait(holder: DeploymentFact) -> None:
    assert plan(fleet(holder, waiter(waited_s=10 * SETTINGS.max_wait_s))) == []


def test_one_that_may_not_evict_never_does() -> None:
    world = fleet(deployment("idle", replica()), waiter(may_evict=False, waited_s=10 * SETTINGS.max_wait_s))
    assert plan(world) == []


def test_a_busy_replica_is_drained_when_a_wait_is_nearly_over_and_never_cut() -> None:
    busy = deployment("busy", replica(num_in_flight=2))
    assert plan(fleet(busy, waiter())) == []
    _, stop = plan(fleet(busy, waiter(waited_s=URGENT_S)))
    assert isinstance(stop, Stop)
    assert stop.drain_s is None


def test_whoever_waits_for_nothing_urgent_drains_nobody() -> None:
    busy = deployment("busy", replica(num_in_flight=2))
    assert plan(fleet(busy, deployment("unwanted", waiting_since=None))) == []


def test_nobody_is_evicted_twice_for_the_same_claimant() -> None:
    devices = [fake_device(0), fake_device(1)]
    leaving = deployment("leaving", replica(is_leaving=True), desired=0)
    assert plan(fleet(leaving, deployment("idle", replica(60, (1,))), waiter(), devices=devices)) == []


def test_one_that_came_later_does_not_take_what_is_promised() -> None:
    leaving = deployment("leaving", replica(is_leaving=True), desired=0)
    small = waiter("small", 1, gigabytes=20)
    assert plan(fleet(leaving, waiter(gigabytes=80), small)) == []
    assert kinds(plan(fleet(leaving, waiter(gigabytes=60), small))) == ["Start"]


def test_the_eviction_of_another_accounts_replica_does_not_say_for_whom() -> None:
    other = deployment("d", replica(), account="other")
    evict = plan(fleet(other, waiter()))[0]
    assert isinstance(evict, Evict)
    assert evict.reason == "made room for another account's deployment"


def test_no_more_than_one_replica_is_asked_back_from_a_minimum() -> None:
    two = deployment("d", replica(40), replica(40, index=1), min_replica_count=1)
    actions = plan(fleet(two, waiter(gigabytes=40)))
    assert kinds(actions) == ["Evict", "Stop"]
    assert isinstance(actions[0], Evict)
    assert actions[0].to_count == 1


# ---- sleeping and waking


def sleepy(name: str = "d", **changes: Any) -> DeploymentFact:
    return deployment(name, replica(host_bytes=10 * GIB), **changes)


def test_scaled_to_zero_one_sleeps_if_host_memory_allows_else_it_is_stopped() -> None:
    assert kinds(plan(fleet(sleepy(desired=0), host_gigabytes=10))) == ["Sleep"]
    assert kinds(plan(fleet(sleepy(desired=0), host_gigabytes=9))) == ["Stop"]


def test_where_the_device_is_the_host_none_sleeps() -> None:
    on_the_host = deployment("d", replica(host_bytes=0), desired=0)
    assert kinds(plan(fleet(on_the_host, host_gigabytes=99))) == ["Stop"]


def test_an_evicted_replica_sleeps_if_it_is_the_last_of_its_deployment() -> None:
    assert kinds(plan(fleet(sleepy(), waiter(), host_gigabytes=10))) == ["Evict", "Sleep"]
    two = deployment("d", *(replica(40, index=index, host_bytes=GIB) for index in range(2)))
    assert kinds(plan(fleet(two, waiter(gigabytes=40), host_gigabytes=10))) == ["Evict", "Stop"]
    assert kinds(plan(fleet(two, waiter(gigabytes=80), host_gigabytes=10))) == ["Evict", "Sleep", "Stop"]


def test_colder_sleepers_end_before_an_evicted_one_sleeps() -> None:
    cold = replica(state=ReplicaState.ASLEEP, host_bytes=10 * GIB)
    first = fleet(deployment("cold", cold, desired=0, last_used_at=1.0), sleepy(), waiter())
    assert stopped(plan(first)) == ["cold"]
    assert kinds(plan(first)) == ["Stop"]
    going = msgspec.structs.replace(cold, state=ReplicaState.STOPPING, is_leaving=True, reserved_bytes=0)
    assert plan(fleet(deployment("cold", going, desired=0), sleepy(), waiter())) == []
    assert kinds(plan(fleet(sleepy(), waiter(), host_gigabytes=10))) == ["Evict", "Sleep"]


def test_sleepers_end_when_host_memory_is_needed() -> None:
    cold = deployment("cold", replica(state=ReplicaState.ASLEEP, host_bytes=10 * GIB), desired=0)
    assert stopped(plan(fleet(cold, host_gigabytes=-1))) == ["cold"]


def test_a_sleeper_is_woken_before_anything_is_started() -> None:
    asleep = deployment("d", replica(state=ReplicaState.ASLEEP), waiting_since=NOW, desired=1)
    assert plan(fleet(asleep)) == [Wake(f"{ACME}d", 0)]


def test_a_sleeper_whose_device_is_taken_starts_elsewhere_if_that_is_free() -> None:
    devices = [fake_device(0), fake_device(1)]
    asleep = deployment("d", replica(state=ReplicaState.ASLEEP), waiting_since=NOW, desired=1)
    world = fleet(asleep, deployment("other", replica()), devices=devices)
    assert plan(world) == [Start(f"{ACME}d", 1, ("simulated-1",), 60 * GIB)]


# ---- other tenants


def test_a_job_is_asked_back_for_a_deployment_and_a_lease_never() -> None:
    assert plan(fleet(waiter(), claims=[claim("jobs/j", Priority.JOB)])) == [
        Yield("jobs/j", "a deployment needs the memory")
    ]
    assert plan(fleet(waiter(waited_s=999), claims=[claim("leases/l", Priority.LEASE)])) == []


def test_a_job_that_was_asked_is_waited_for() -> None:
    leaving = msgspec.structs.replace(claim("jobs/j", Priority.JOB), is_leaving=True)
    assert plan(fleet(waiter(), claims=[leaving])) == []


def test_a_lease_claims_like_a_deployment_and_before_it() -> None:
    lease = claim("leases/l", Priority.LEASE, waits_s=1)
    assert plan(fleet(waiter(waited_s=20), claims=[lease])) == [Grant("leases/l", ("simulated-0",), 60 * GIB)]
    evict, stop = plan(fleet(deployment("idle", replica()), claims=[lease]))
    assert evict == Evict(f"{ACME}idle", 0, "made room for a lease")
    assert stopped([stop]) == ["idle"]


def test_a_job_waits_for_what_is_free_and_comes_last() -> None:
    job = claim("jobs/j", Priority.JOB, waits_s=500)
    assert kinds(plan(fleet(waiter(), claims=[job]))) == ["Start"]
    assert plan(fleet(deployment("idle", replica()), claims=[job])) == []


# ---- replacing replicas


def outdated(*replicas: ReplicaFact) -> DeploymentFact:
    return deployment("d", *replicas, revision=2)


def test_a_new_revision_comes_beside_the_old_one_or_in_its_place() -> None:
    assert kinds(plan(fleet(outdated(replica(30)), devices=[fake_device(gigabytes=100)]))) == ["Start"]
    (stop,) = plan(fleet(outdated(replica(60, num_in_flight=1))))
    assert stop == Stop(f"{ACME}d", 0, None, "replaced by revision 2")


def test_a_surge_evicts_nobody() -> None:
    world = fleet(outdated(replica(20)), deployment("idle", replica(40)))
    assert stopped(plan(world)) == ["d"]


def test_only_a_deleted_deployment_has_little_time_to_finish() -> None:
    (stop,) = plan(fleet(deployment("d", replica(num_in_flight=1), desired=0, is_leaving=True)))
    assert isinstance(stop, Stop)
    assert stop.drain_s == SETTINGS.replica_drain_s


# ---- any fleet

REPLICAS = st.builds(
    lambda gigabytes, device, state, age, idle, busy, leaving, revision: replica(
        gigabytes,
        (device,),
        state=state,
        ready_at=NOW - age if state is ReplicaState.READY else None,
        idle_since=None if busy else NOW - min(idle, age),
        num_in_flight=busy if state is ReplicaState.READY else 0,
        is_leaving=leaving,
        revision=revision,
        host_bytes=5 * GIB,
    ),
    st.integers(1, 40),
    st.integers(0, 2),
    st.sampled_from([ReplicaState.READY] * 4 + [ReplicaState.LOADING, ReplicaState.ASLEEP]),
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from([0, 0, 2]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([1, 1, 1, 0]),
)
DEPLOYMENTS = st.tuples(
    st.lists(REPLICAS, max_size=3),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from(list(Priority)[1:3]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 200),
    st.tuples(st.integers(1, 80), st.integers(1, 2)),
)


def make_fleet(drawn: list[Any], host_gigabytes: int) -> Fleet:
    held: Counter[str] = Counter()
    facts = []
    for number, (replicas, desired, minimum, priority, pinned, evicts, waited_s, (size, count)) in enumerate(drawn):
        kept = []
        for index, each in enumerate(replicas):
            is_asleep = each.state is ReplicaState.ASLEEP
            if not is_asleep and held[each.device_ids[0]] + each.reserved_bytes > 80 * GIB:
                continue
            held[each.device_ids[0]] += 0 if is_asleep else each.reserved_bytes
            kept.append(msgspec.structs.replace(each, index=index))
        fact = deployment(
            f"d{number}",
            *kept,
            desired=max(desired, minimum),
            min_replica_count=minimum,
            priority=priority,
            is_pinned=pinned,
            may_evict=evicts,
            waiting_since=NOW - waited_s if waited_s % 2 else None,
            demands=(demand(size + 10, count=count), demand(size, count=count)),
        )
        facts.append(fact)
    return fleet(*facts, devices=[fake_device(index) for index in range(3)], host_gigabytes=host_gigabytes)


@given(st.lists(DEPLOYMENTS, max_size=8), st.integers(0, 30))
def test_whatever_the_fleet_no_rule_is_broken(drawn: list[Any], host_gigabytes: int) -> None:
    world = make_fleet(drawn, host_gigabytes)
    result = plan_fleet(world, SETTINGS)
    facts = {fact.name: fact for fact in world.deployments}
    reserved: Counter[str] = Counter()
    slept = 0
    touched = []
    for action in result.actions:
        if isinstance(action, Start):
            reserved.update(dict.fromkeys(action.device_ids, action.num_bytes))
            continue
        assert isinstance(action, Wake | Stop | Sleep | Evict)
        if isinstance(action, Evict):
            assert facts[action.deployment].min_replica_count <= action.to_count < facts[action.deployment].desired
            continue
        fact = facts[action.deployment]
        touched.append((action.deployment, action.index))
        its = next(each for each in fact.replicas if each.index == action.index)
        assert not its.is_leaving
        if isinstance(action, Wake):
            reserved.update(dict.fromkeys(its.device_ids, its.reserved_bytes))
        if isinstance(action, Sleep):
            slept += its.host_bytes
        if action_is_eviction(action):
            assert not fact.is_pinned
            assert its.state is ReplicaState.READY
            assert NOW - (its.ready_at or NOW) >= SETTINGS.min_residency_s
    assert all(world.free_bytes[device_id] >= num_bytes for device_id, num_bytes in reserved.items()), "overcommitted"
    assert slept <= world.host_free_bytes
    assert len(touched) == len(set(touched)), "two things at once of one replica"
    for fact in world.deployments:
        num_evicted = sum(action_is_eviction(each) and each.deployment == fact.name for each in result.actions)  # type: ignore[union-attr]
        num_ready = sum(each.state is ReplicaState.READY and not each.is_leaving for each in fact.replicas)
        assert num_evicted == 0 or num_ready - num_evicted >= fact.min_replica_count


def action_is_eviction(action: Action) -> bool:
    return isinstance(action, Stop | Sleep) and action.reason.startswith("made room for")


# ---- a large fleet


@pytest.mark.parametrize("num_waiting", [0, 1])
def test_a_look_at_a_large_fleet_is_short(num_waiting: int) -> None:
    devices = [fake_device(index) for index in range(8)]
    facts = [deployment(f"d{number}", replica(9, (number % 8,))) for number in range(64)]
    facts += [waiter(f"w{number}") for number in range(num_waiting)]
    facts += [deployment(f"z{number}", desired=0) for number in range(136 - num_waiting)]
    world = fleet(*facts, devices=devices)
    durations = []
    for _ in range(20):
        began_at = time.perf_counter()
        plan_fleet(world, FleetSettings())
        durations.append(time.perf_counter() - began_at)
    assert min(durations) < 0.005
