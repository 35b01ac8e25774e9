from typing import Any

import msgspec

from appliance.config import GIB
from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import ClaimFact, DeploymentFact, Explanation, Fleet, Priority
from appliance.orchestrator.planning import plan_fleet
from tests.appliance.orchestrator.fleet_samples import NOW, SETTINGS, claim, demand, deployment, fleet, replica
from tests.fakes.fake_gpus import fake_device

NEEDS = "needs 60.0 GiB on one NVIDIA_H100_80GB; free: simulated-0 20.0 GiB"


def waiter(**changes: Any) -> DeploymentFact:
    return deployment("waiter", **changes)


def explanation(world: Fleet, name: str = "accounts/acme/deployments/waiter") -> Explanation:
    return plan_fleet(world, SETTINGS, explained=name).waiting[name]


def test_the_sentence_says_what_is_needed_what_is_free_and_what_frees_more() -> None:
    told = explanation(fleet(deployment("x", replica(host_bytes=GIB)), waiter(), host_gigabytes=2))
    assert told.reason == f"{NEEDS}; putting accounts/acme/deployments/x to sleep frees 60.0 GiB"
    assert (told.needed_bytes, told.accelerator_count, told.free_bytes) == (60 * GIB, 1, {"simulated-0": 20 * GIB})


def test_the_sentence_stays_the_same_until_the_room_is_there() -> None:
    before = explanation(fleet(deployment("x", replica()), waiter()))
    after = explanation(fleet(deployment("x", replica(is_leaving=True), desired=0), waiter()))
    assert before.reason == after.reason == f"{NEEDS}; stopping accounts/acme/deployments/x frees 60.0 GiB"


def test_time_passing_does_not_change_the_sentence() -> None:
    told = [
        explanation(fleet(deployment("x", replica(ready_at=NOW - resident_s)), waiter())).reason
        for resident_s in (1, 30)
    ]
    assert told == [f"{NEEDS}; may make room later: accounts/acme/deployments/x (60.0 GiB)"] * 2


def test_another_accounts_deployment_is_not_named() -> None:
    other = deployment("secret", replica(), account="other")
    told = explanation(fleet(other, waiter()))
    assert told.reason == f"{NEEDS}; stopping another account's deployment frees 60.0 GiB"
    assert told.candidates[0].owner == "accounts/other/deployments/secret/replicas/0"


def test_a_lease_that_waits_is_told_every_name() -> None:
    lease = claim("leases/one", Priority.LEASE, waits_s=1)
    other = deployment("x", replica(), account="other")
    assert "stopping accounts/other/deployments/x" in explanation(fleet(other, claims=[lease]), "leases/one").reason


def test_one_that_evicts_nobody_says_so_and_one_that_cannot_be_helped_too() -> None:
    told = explanation(fleet(deployment("x", replica()), waiter(may_evict=False)))
    assert told.reason == f"{NEEDS}; it waits for memory to become free, since it evicts nobody"
    told = explanation(fleet(deployment("x", replica(), is_pinned=True), waiter()))
    assert told.reason == f"{NEEDS}; nothing there makes room for it"


def test_long_lists_are_cut() -> None:
    holders = [deployment(f"d{number}", replica(16, is_leaving=False, ready_at=NOW - 1)) for number in range(5)]
    assert explanation(fleet(*holders, waiter())).reason.endswith("d2 (16.0 GiB) and 2 more")


def test_several_devices_are_counted() -> None:
    devices = [fake_device(0), fake_device(1)]
    wide = waiter(demands=(demand(50, count=2),))
    told = explanation(fleet(deployment("x", replica()), wide, devices=devices))
    assert told.reason.startswith("needs 50.0 GiB on each of 2 NVIDIA_H100_80GB; free: simulated-0 20.0 GiB, ")


def test_devices_that_are_not_there_are_named() -> None:
    assert explanation(fleet(waiter(demands=(demand(1, "NVIDIA_B200_180GB"),)))).reason == (
        "needs one NVIDIA_B200_180GB; this box has NVIDIA_H100_80GB"
    )
    assert explanation(fleet(waiter(demands=(demand(1, count=2),)))).reason == (
        "needs 2 devices of one type for each replica; this box has 1"
    )


def test_only_the_one_that_is_asked_about_gets_all_candidates_listed() -> None:
    world = fleet(deployment("x", replica()), waiter())
    name = "accounts/acme/deployments/waiter"
    unasked, asked = plan_fleet(world, SETTINGS), plan_fleet(world, SETTINGS, explained=name)
    assert unasked.waiting[name].candidates == ()
    assert len(asked.waiting[name].candidates) == 1
    assert unasked.actions == asked.actions


def test_candidates_say_what_keeps_each_from_making_room() -> None:
    holders = [
        deployment("busy", replica(10, num_in_flight=3)),
        deployment("new", replica(10, ready_at=NOW - 12)),
        deployment("pinned", replica(10), is_pinned=True),
        deployment("starting", replica(10, state=ReplicaState.LOADING)),
        deployment("small", replica(10)),
    ]
    told = explanation(fleet(*holders, waiter(demands=(demand(75),))))
    assert {each.owner.split("/")[3]: each.obstacle for each in told.candidates} == {
        "busy": "busy: 3 requests",
        "new": "resident for 12 of 60 s",
        "pinned": "pinned",
        "starting": "loading",
        "small": "not needed, or not enough",
    }


def test_what_nobody_can_free_is_listed_too() -> None:
    lent: list[ClaimFact] = [claim("leases/one", Priority.LEASE, 10)]
    world = fleet(waiter(demands=(demand(75),)), claims=lent)
    world = msgspec.structs.replace(world, fixed_bytes={"simulated-0": {"others": GIB}})
    told = explanation(world)
    assert [(each.owner, each.obstacle) for each in told.candidates] == [
        ("leases/one", "lent until it is given back"),
        ("others", "cannot be asked"),
    ]


def test_a_reason_that_lies_elsewhere_is_passed_on() -> None:
    assert explanation(fleet(waiter(blocked_reason="its model is not there"))).reason == "its model is not there"
