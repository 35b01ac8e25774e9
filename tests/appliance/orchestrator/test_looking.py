from typing import Any

import pytest

from appliance.config import GIB
from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import DeploymentFact, Fleet, Priority, ReplicaFact
from appliance.orchestrator.gpus import CPU, Device
from appliance.orchestrator.group import Group
from appliance.orchestrator.ledger import FOREIGN_OWNER, Ledger
from appliance.orchestrator.looking import Want, see_fleet
from appliance.orchestrator.replica import Replica
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import sample_deployment, sample_plan, sample_settings, sample_surroundings
from tests.fakes.fake_gpus import FakeInventory, fake_device

CPU_DEVICE = Device(id="cpu", index=0, accelerator_type=CPU, memory_bytes=64 * GIB, is_cuda=False)


def look(
    ledger: Ledger, *wants: Want, device: Device | None = None, yielding: int = 0, host_yielding: int = 0
) -> Fleet:
    device = device or fake_device()
    return see_fleet(1000.0, [device], ledger, wants, [], {device.id: yielding}, host_yielding, {})


def see(group: Group, num_waiting: int = 0) -> DeploymentFact:
    (fact,) = look(Ledger([fake_device()]), Want(group, None, num_waiting)).deployments
    return fact


@pytest.fixture
async def replica(database: Database) -> Replica:
    around = sample_surroundings(sample_settings(), database, FakeInventory())
    return Replica(sample_plan(reserved_bytes=9, host_bytes=5), around, lambda replica: None)


def see_replica(replica: Replica) -> ReplicaFact:
    group = Group(sample_deployment())
    group.replicas[0] = replica
    (fact,) = see(group).replicas
    return fact


def test_what_gives_way_at_once_counts_as_free() -> None:
    ledger = Ledger([fake_device()], host_bytes=10 * GIB)
    ledger.reserve("spare worker 0", ["simulated-0"], GIB)
    ledger.reserve_host("weights in host memory", 4 * GIB)
    fleet = look(ledger, yielding=GIB, host_yielding=4 * GIB)
    assert fleet.free_bytes == {"simulated-0": 80 * GIB}
    assert fleet.host_free_bytes == 10 * GIB


def test_nobody_sleeps_where_the_host_is_the_device() -> None:
    assert look(Ledger([CPU_DEVICE], host_bytes=10 * GIB), device=CPU_DEVICE).host_free_bytes == 0


def test_what_nobody_can_free_is_named() -> None:
    ledger = Ledger([fake_device()])
    ledger.reserve("a", ["simulated-0"], GIB)
    ledger.observe_foreign("simulated-0", 2 * GIB)
    assert look(ledger).fixed_bytes == {"simulated-0": {FOREIGN_OWNER: 2 * GIB}}


@pytest.mark.parametrize(
    ("changes", "num_waiting", "last_used_at"),
    [({"created_at": 7.0}, 0, 7.0), ({"last_used_at": 9.0}, 0, 9.0), ({"last_used_at": 9.0}, 1, 1000.0)],
)
def test_it_was_last_used_when_it_was_made_or_asked_or_now(
    changes: dict[str, Any], num_waiting: int, last_used_at: float
) -> None:
    assert see(Group(sample_deployment(**changes)), num_waiting).last_used_at == last_used_at


def test_serverless_ones_stand_below_others() -> None:
    assert see(Group(sample_deployment(is_serverless=True))).priority is Priority.SERVERLESS
    assert see(Group(sample_deployment())).priority is Priority.DEPLOYMENT


async def test_what_was_asked_of_a_replica_a_moment_ago_counts_as_begun(replica: Replica) -> None:
    assert see_replica(replica).state is ReplicaState.STARTING
    replica.state, replica.holds_devices, replica.host_bytes = ReplicaState.ASLEEP, False, 6
    asleep = see_replica(replica)
    assert (asleep.state, asleep.reserved_bytes, asleep.host_bytes) == (ReplicaState.ASLEEP, 9, 6)
    replica.wake()
    assert see_replica(replica).state is ReplicaState.LOADING


async def test_one_that_ends_in_its_sleep_does_not_come_back(replica: Replica) -> None:
    replica.state, replica.holds_devices = ReplicaState.STOPPING, False
    assert see_replica(replica).is_leaving
