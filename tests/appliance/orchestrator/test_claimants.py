from typing import Any

import pytest

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.claimants import Claimant, find_urgent, in_order, of_claim, of_deployment
from appliance.orchestrator.fleet import Demand, Priority
from appliance.orchestrator.rolling import Upkeep
from tests.appliance.orchestrator.fleet_samples import NOW, claim, deployment, replica

MISSING = Upkeep(num_missing=1)
SETTINGS = FleetSettings(max_wait_s=100.0, min_residency_s=40.0)
LOAD_S = 10.0
"""A quarter of the maximum wait is for draining: alone, one is urgent after 100 - 25 - 10 s."""


def waiter(name: str, waited_s: float, **changes: Any) -> Claimant:
    fact = deployment(name, waiting_since=NOW - waited_s, load_s=LOAD_S, **changes)
    return of_deployment(fact, MISSING, NOW)[0]


def names(claimants: list[Claimant]) -> list[str]:
    return [each.name.rpartition("/")[2] for each in claimants]


def test_priority_goes_before_the_longest_wait_and_that_before_age() -> None:
    young = waiter("young", 1, created_at=5.0)
    old = waiter("old", 1, created_at=1.0)
    patient = waiter("patient", 50)
    serverless = waiter("serverless", 90, priority=Priority.SERVERLESS)
    unwanted = of_deployment(deployment("unwanted", waiting_since=None), MISSING, NOW)[0]
    lease, job = (of_claim(claim(each.name, each, waits_s=2), NOW) for each in (Priority.LEASE, Priority.JOB))
    ordered = in_order([job, unwanted, young, serverless, old, patient, lease])
    assert names(ordered) == ["LEASE", "patient", "old", "young", "unwanted", "serverless", "JOB"]


def test_a_first_replica_goes_before_a_further_one() -> None:
    further = of_deployment(deployment("further", replica(), desired=3), Upkeep(num_missing=2), NOW)
    assert names(in_order([*further, waiter("first", 1)])) == ["first", "further", "further"]


def test_one_that_sleeps_is_no_replica_that_others_wait_behind() -> None:
    asleep = deployment("asleep", replica(state=ReplicaState.ASLEEP), waiting_since=NOW - 9)
    claimants = of_deployment(asleep, Upkeep(num_missing=2, sleeping=asleep.replicas), NOW)
    assert names(in_order([waiter("later", 1), *claimants])) == ["asleep", "later", "asleep"]


def test_a_sleeper_would_rather_be_woken_where_it_is() -> None:
    fact = deployment("d", replica(30, devices=(1,), state=ReplicaState.ASLEEP))
    woken, started = of_deployment(fact, Upkeep(num_missing=2, sleeping=fact.replicas), NOW)
    assert woken.demands == (Demand(fact.replicas[0].reserved_bytes, None, 1, ("simulated-1",)), *fact.demands)
    assert (started.demands, started.sleeper) == (fact.demands, None)


def test_a_surge_evicts_nobody() -> None:
    assert not of_deployment(deployment("d", replica()), Upkeep(num_missing=1, is_surge=True), NOW)[0].may_evict


@pytest.mark.parametrize(("waited_s", "urgent"), [(64, False), (66, True)])
def test_a_wait_is_urgent_in_time_for_draining_and_loading(waited_s: float, urgent: bool) -> None:
    waiters = [waiter("d", waited_s)]
    assert bool(find_urgent(waiters, 1, SETTINGS, NOW)) is urgent


def test_when_they_take_turns_the_first_begins_early_enough_for_the_last() -> None:
    waiters = [waiter("first", 20), waiter("second", 16)]
    assert find_urgent(waiters, 2, SETTINGS, NOW) == set()
    # The second is urgent after 65 s, one residency and one load after the first: 15 s after it began to wait.
    assert find_urgent(waiters, 1, SETTINGS, NOW) == {waiters[0].name}
    assert find_urgent([waiters[0], waiter("second", 14)], 1, SETTINGS, NOW) == set()


def test_one_that_stands_lower_hurries_nobody() -> None:
    starved = waiter("serverless", 10_000, priority=Priority.SERVERLESS)
    assert find_urgent([waiter("first", 5), starved], 1, SETTINGS, NOW) == {starved.name}
