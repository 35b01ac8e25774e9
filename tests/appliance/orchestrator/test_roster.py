from typing import Any

import pytest

from appliance.config import GIB
from appliance.domain import DeploymentState
from appliance.orchestrator.ledger import UNRETURNED_OWNER, Overcommitted
from appliance.orchestrator.replica import Measurement
from appliance.store.database import Database
from tests.appliance.orchestrator.roster_world import SIZE, roster_world
from tests.appliance.orchestrator.samples import sample_deployment, sample_plan
from tests.fakes.fake_gpus import fake_device
from tests.waiting import until

LABEL = "accounts/acme/deployments/d/replicas/0"


async def test_a_replica_holds_its_devices_from_start_to_end(database: Database) -> None:
    async with roster_world(database) as world:
        replica = await world.start(devices=(fake_device(0), fake_device(1)))
        assert world.ledger.by_owner("simulated-0") == world.ledger.by_owner("simulated-1") == {LABEL: SIZE}
        (worker,) = world.launcher.alive
        assert world.roster.pids() == {worker.pid}
        replica.stop(None)
        await until(lambda: not world.group.replicas)
        assert world.ledger.free_bytes("simulated-1") == 80 * GIB


async def test_what_does_not_fit_is_not_started(database: Database) -> None:
    async with roster_world(database) as world:
        with pytest.raises(Overcommitted):
            world.roster.start(world.group, sample_plan(reserved_bytes=81 * GIB))
        assert not world.group.replicas
        assert not world.launcher.alive


async def test_asleep_it_holds_host_memory_and_what_it_cannot_give_back(database: Database) -> None:
    async with roster_world(database) as world:
        replica = await world.start()
        (worker,) = world.launcher.alive
        world.inventory.used["simulated-0"] = {worker.pid: 1 * GIB}  # its context
        await world.put_to_sleep(replica)
        assert world.ledger.by_owner("simulated-0") == {LABEL: GIB}
        assert world.ledger.host_by_owner() == {LABEL: 2 * GIB}
        world.roster.wake(replica)
        assert world.ledger.by_owner("simulated-0") == {LABEL: SIZE}
        await until(lambda: replica.is_ready)
        assert world.ledger.host_by_owner() == {}
        assert world.launcher.alive == [worker]
        world.inventory.used["simulated-0"] = {}


async def test_one_whose_place_is_taken_goes_on_sleeping(database: Database) -> None:
    async with roster_world(database) as world:
        replica = await world.start()
        await world.put_to_sleep(replica)
        world.ledger.reserve("somebody", ["simulated-0"], 75 * GIB)
        with pytest.raises(Overcommitted):
            world.roster.wake(replica)
        assert replica.is_asleep
        world.ledger.release("somebody")


@pytest.mark.parametrize("host_bytes", [0, GIB], ids=["no room for the estimate", "no room for what it really holds"])
async def test_without_room_in_host_memory_it_is_stopped_instead(database: Database, host_bytes: int) -> None:
    async with roster_world(database, host_bytes) as world:
        world.roster.put_to_sleep(await world.start())
        await until(lambda: not world.group.replicas)


async def test_a_worker_that_dies_in_its_sleep_is_not_replaced(database: Database) -> None:
    async with roster_world(database) as world:
        await world.put_to_sleep(await world.start())
        (worker,) = world.launcher.alive
        worker.end("the worker was ended by SIGKILL")
        await until(lambda: not world.group.replicas)
        assert world.ledger.host_by_owner() == {}


async def test_memory_that_does_not_come_back_is_written_off_and_its_replica_goes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.orchestrator.gpus.MEMORY_POLL_S", 0.001)
    monkeypatch.setattr("appliance.orchestrator.replica.MEMORY_RETURN_TIMEOUT_S", 0.05)
    async with roster_world(database) as world:
        await world.start()
        (worker,) = world.launcher.alive
        world.inventory.used["simulated-0"] = {worker.pid: SIZE}
        worker.end("the worker was ended by SIGKILL")
        await until(lambda: not world.group.replicas)
        assert world.ledger.by_owner("simulated-0") == {UNRETURNED_OWNER: SIZE}
        world.inventory.used["simulated-0"] = {}
        world.ledger.recover("simulated-0", worker.pid)


async def test_each_load_is_to_be_learned_from_once(database: Database) -> None:
    async with roster_world(database) as world:
        replica = await world.start()
        ((key, measured),) = world.roster.unlearned
        assert key == "k"
        assert isinstance(measured, Measurement)
        world.roster.unlearned.clear()
        await world.put_to_sleep(replica)
        world.roster.wake(replica)
        await until(lambda: replica.is_ready)
        assert world.roster.unlearned == [], "waking is no load"


@pytest.mark.parametrize("rows", [[], [{"state": DeploymentState.DELETING}]], ids=["purged", "being deleted"])
async def test_a_deployment_is_known_until_its_last_worker_is_gone(
    database: Database, rows: list[dict[str, Any]]
) -> None:
    async with roster_world(database) as world:
        replica = await world.start()
        world.roster.see([sample_deployment(**row) for row in rows])
        assert world.group.is_leaving
        replica.stop(0.0)
        await until(lambda: not world.group.replicas)
        world.roster.see([])
        assert list(world.roster) == []
        world.roster.see([sample_deployment()])


async def test_crashes_count_on_when_a_replica_is_replaced_since_its_device_is_not_well(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.orchestrator.replica.MEMORY_RETURN_TIMEOUT_S", 0.0)
    async with roster_world(database) as world:
        world.launcher.scripts["d"].ending = "crash"
        world.launcher.on_hold = world.keep_memory
        for number in range(world.settings.crashes_max):
            assert not world.group.replicas
            world.roster.start(world.group, sample_plan(reserved_bytes=GIB))
            await until(lambda: world.group.has_failed or not world.group.replicas)
            assert world.group.has_failed is (number == world.settings.crashes_max - 1)
        world.give_memory_back()
