from typing import Any

import pytest

from appliance.domain import ReplicaState
from appliance.orchestrator.claimants import Claimant, of_claim, of_deployment
from appliance.orchestrator.fleet import DeploymentFact, Priority
from appliance.orchestrator.rolling import Upkeep
from appliance.orchestrator.tenants import Tenant, cost_of, obstacle_for, tenants_of
from tests.appliance.orchestrator.fleet_samples import NOW, SETTINGS, claim, deployment, fleet, replica


def claimant(*, is_urgent: bool = False, **changes: Any) -> Claimant:
    made = of_deployment(deployment("claimant", **changes), Upkeep(num_missing=1), NOW)[0]
    return made._replace(is_urgent=is_urgent)


def tenant(fact: DeploymentFact) -> Tenant:
    return tenants_of(fleet(fact), SETTINGS)[0]


def holder(**changes: Any) -> Tenant:
    """Of a deployment with one replica."""
    return tenant(deployment("holder", replica(), **changes))


def test_an_idle_unpinned_replica_past_its_residency_makes_room() -> None:
    assert obstacle_for(holder(), claimant(), NOW) == ""


@pytest.mark.parametrize("is_urgent", [False, True])
@pytest.mark.parametrize(
    ("held", "obstacle"),
    [
        (holder(is_pinned=True), "pinned"),
        (holder(min_replica_count=1), "guaranteed: at least 1 replicas"),
        (tenant(deployment("holder", replica(state=ReplicaState.LOADING))), "loading"),
        (tenant(deployment("holder", replica(ready_at=NOW - 12))), "resident for 12 of 60 s"),
        (tenants_of(fleet(claims=[claim("lease", Priority.LEASE)]), SETTINGS)[0], "lent until it is given back"),
    ],
)
def test_some_never_make_room(held: Tenant, obstacle: str, is_urgent: bool) -> None:
    assert obstacle_for(held, claimant(is_urgent=is_urgent), NOW) == obstacle


def test_of_three_replicas_two_may_go_when_one_is_guaranteed() -> None:
    three = deployment("d", *(replica(20, index=index) for index in range(3)), min_replica_count=1)
    assert [each.obstacle for each in tenants_of(fleet(three), SETTINGS)] == ["", "", ""]
    one_ready = deployment("d", replica(20), replica(20, index=1, state=ReplicaState.LOADING), min_replica_count=1)
    assert tenants_of(fleet(one_ready), SETTINGS)[0].obstacle.startswith("guaranteed")


def test_a_busy_replica_makes_room_for_an_urgent_one_only() -> None:
    busy = tenant(deployment("holder", replica(num_in_flight=3)))
    assert obstacle_for(busy, claimant(), NOW) == "busy: 3 requests"
    assert obstacle_for(busy, claimant(is_urgent=True), NOW) == ""


def test_lower_priority_makes_room_for_higher_and_never_the_reverse() -> None:
    serverless = holder(priority=Priority.SERVERLESS)
    assert obstacle_for(serverless, claimant(), NOW) == ""
    assert (
        obstacle_for(holder(), claimant(priority=Priority.SERVERLESS, is_urgent=True), NOW) == "goes before what waits"
    )


def test_what_may_not_evict_evicts_nobody() -> None:
    assert obstacle_for(holder(), claimant(may_evict=False), NOW) == "what waits evicts nobody"


def test_a_job_gives_way_to_all_but_jobs() -> None:
    job = tenants_of(fleet(claims=[claim("job", Priority.JOB)]), SETTINGS)[0]
    assert obstacle_for(job, claimant(), NOW) == ""
    assert obstacle_for(job, of_claim(claim("other job", Priority.JOB, waits_s=999), NOW), NOW) != ""


def test_one_used_just_now_makes_room_once_both_loads_are_paid_for() -> None:
    recent = tenant(deployment("holder", replica(idle_since=NOW - 2), load_s=8.0))
    assert obstacle_for(recent, claimant(load_s=8.0, waiting_since=NOW - 13), NOW) == "used 2 s ago"
    assert obstacle_for(recent, claimant(load_s=8.0, waiting_since=NOW - 14), NOW) == ""


def test_jobs_then_serverless_then_least_recently_used_then_busy_ones_go_first() -> None:
    ordered = [
        tenants_of(fleet(claims=[claim("job", Priority.JOB)]), SETTINGS)[0],
        holder(priority=Priority.SERVERLESS),
        tenant(deployment("d", replica(idle_since=NOW - 500))),
        tenant(deployment("d", replica(idle_since=NOW - 100))),
        tenant(deployment("d", replica(num_in_flight=1, ready_at=NOW - 900))),
        tenant(deployment("d", replica(num_in_flight=1, ready_at=NOW - 300))),
    ]
    costs = [cost_of(each) for each in ordered]
    assert costs == sorted(costs)


def test_sleepers_and_those_that_gave_up_hold_nothing() -> None:
    fact = deployment("d", replica(state=ReplicaState.ASLEEP), replica(index=1, has_given_up=True))
    assert tenants_of(fleet(fact), SETTINGS) == []
