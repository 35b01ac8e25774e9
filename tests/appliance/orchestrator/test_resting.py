from typing import Any

import pytest

from appliance.config import GIB
from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import DeploymentFact, Priority, ReplicaFact, Stop
from appliance.orchestrator.resting import MADE_ROOM, HostRoom
from tests.appliance.orchestrator.fleet_samples import NOW, deployment, fleet, replica


def sleeper(name: str, host_gigabytes: int, unused_s: float = 1000, **changes: Any) -> DeploymentFact:
    asleep = replica(state=ReplicaState.ASLEEP, host_bytes=host_gigabytes * GIB)
    return deployment(name, asleep, desired=0, last_used_at=NOW - unused_s, **changes)


def resting(host_gigabytes: int = 10) -> tuple[DeploymentFact, ReplicaFact]:
    fact = deployment("tired", replica(host_bytes=host_gigabytes * GIB), last_used_at=NOW - 100)
    return fact, fact.replicas[0]


def stopped(stops: list[Stop] | None) -> list[str] | None:
    return None if stops is None else [stop.deployment.rpartition("/")[2] for stop in stops]


def test_a_replica_sleeps_as_long_as_host_memory_lasts() -> None:
    host = HostRoom(fleet(host_gigabytes=15))
    _, tired = resting()
    assert (host.take(tired), host.take(tired)) == (True, False)


def test_where_the_host_is_the_device_none_sleeps() -> None:
    _, tired = resting()
    assert HostRoom(fleet()).can_sleep(tired)
    assert not HostRoom(fleet()).can_sleep(replica(host_bytes=0))


def test_the_least_recently_used_sleepers_make_room() -> None:
    world = fleet(sleeper("warm", 8, 500), sleeper("cold", 8, 900), sleeper("colder", 8, 950), host_gigabytes=0)
    assert stopped(HostRoom(world).make_room(*resting(10))) == ["colder", "cold"]


def test_sleepers_that_were_used_later_or_matter_more_stay() -> None:
    world = fleet(sleeper("later", 20, 50), sleeper("above", 20, priority=Priority.LEASE))
    assert HostRoom(world).make_room(*resting()) is None


def test_memory_on_its_way_back_is_waited_for_and_spoken_for_once() -> None:
    leaving = replica(state=ReplicaState.STOPPING, is_leaving=True, host_bytes=12 * GIB)
    host = HostRoom(fleet(deployment("going", leaving, desired=0)))
    fact, tired = resting()
    assert host.make_room(fact, tired) == []
    assert host.make_room(fact, tired) == [], "it is the same one that asks"
    assert host.make_room(*resting()) is None


@pytest.mark.parametrize(("owed", "names"), [(0, []), (-3, ["colder"]), (-9, ["colder", "cold"])])
def test_what_others_need_is_paid_back_by_the_coldest(owed: int, names: list[str]) -> None:
    host = HostRoom(fleet(sleeper("cold", 8, 900), sleeper("colder", 8, 950), host_gigabytes=owed))
    stops = host.repay()
    assert stopped(stops) == names
    assert all(stop.reason == MADE_ROOM for stop in stops)


def test_one_that_is_about_to_wake_is_left_alone() -> None:
    world = fleet(sleeper("cold", 20), host_gigabytes=-1)
    host = HostRoom(world)
    host.forget(world.deployments[0].replicas[0])
    assert host.repay() == []
