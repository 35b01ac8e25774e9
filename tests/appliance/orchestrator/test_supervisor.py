import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.config import GIB
from appliance.domain import Account, Deployment, DeploymentState, ReplicaRow, ReplicaState, Reservation
from appliance.orchestrator.fleet import Demand, Priority
from appliance.orchestrator.ledger import UNRETURNED_OWNER
from appliance.orchestrator.process import WorkerProcess, identify, prepare_run_dir
from appliance.orchestrator.supervisor import ReplicaCounts
from appliance.store import accounts, deployments, replicas, reservations
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import llm_settings
from tests.appliance.orchestrator.world import RecordingObserver, World, running_world
from tests.fakes.fake_gpus import FakeInventory, fake_device
from tests.fakes.fake_worker import Act, FakeModel, Script, answer
from tests.waiting import until


async def stored_pids(database: Database) -> list[int]:
    async with database.reader() as db:
        return [row.pid for row in await replicas.list_all(db)]


async def test_a_desired_replica_is_placed_started_and_reported(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d")
        assert await world.ask(deployment, "hello") == answer("hello")
        await until(lambda: world.observer.counts("d") == ReplicaCounts(1, 1, 0, 0, 0))
        (view,) = world.views("d")
        assert view.pid is not None
        assert await stored_pids(database) == [view.pid]
        label = "accounts/acme/deployments/d/replicas/0"
        assert world.supervisor.ledger.by_owner("simulated-0") == {label: view.reserved_bytes}
    assert identify(view.pid) is None
    assert await stored_pids(database) == []


async def test_scaling_starts_and_stops_replicas_without_losing_requests(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=3, behaviour=FakeModel(step_ms=20.0))
        await world.until_ready("d", 3)
        requests = [asyncio.create_task(world.ask(deployment, f"hello {number}")) for number in range(6)]
        await until(lambda: sum(view.num_in_flight for view in world.views("d")) == 6)
        await world.change(deployment, desired_replica_count=1)
        await world.until_ready("d", 1)
        assert await asyncio.gather(*requests) == [answer(f"hello {number}") for number in range(6)]
        await world.change(deployment, desired_replica_count=0)
        await until(lambda: not world.views("d"))
        assert world.supervisor.ledger.free_bytes("simulated-0") == 80 * GIB
        await until(lambda: world.observer.counts("d") == ReplicaCounts(0, 0, 0, 0, 0))


async def test_what_does_not_fit_waits_with_the_numbers_and_starts_when_there_is_room(
    tmp_path: Path, database: Database
) -> None:
    inventory = FakeInventory(fake_device(0), fake_device(1))
    async with running_world(tmp_path, database, inventory) as world:
        first = await world.deploy("first", gigabytes=50, created_at=1.0)
        await world.deploy("second", gigabytes=60, created_at=2.0)
        await world.until_ready("first")
        await world.until_ready("second")
        await world.deploy("third", gigabytes=40, created_at=3.0)
        await until(lambda: world.observer.counts("third") == ReplicaCounts(1, 0, 0, 1, 0))
        free = [world.supervisor.ledger.free_bytes(f"simulated-{index}") / GIB for index in (0, 1)]
        assert world.observer.message("third").startswith("needs 40.")
        numbers = f"on one NVIDIA_H100_80GB; free: simulated-0 {free[0]:.1f} GiB, simulated-1 {free[1]:.1f} GiB"
        assert numbers in world.observer.message("third")

        await world.change(first, state=DeploymentState.DELETING)
        await world.until_ready("third")
        assert [view.device_ids for view in world.views("third")] == [("simulated-0",)]
        await until(lambda: world.observer.counts("third") == ReplicaCounts(1, 1, 0, 0, 0))
        assert world.observer.message("third") == ""
        assert world.observer.counts("first") == ReplicaCounts(0, 0, 0, 0, 0)


async def test_waiting_replicas_see_memory_that_other_programs_gave_back(tmp_path: Path, database: Database) -> None:
    inventory = FakeInventory()
    inventory.used["simulated-0"] = {os.getpid(): 79 * GIB}
    async with running_world(tmp_path, database, inventory) as world:
        await world.deploy("d", gigabytes=10)
        await until(lambda: "free: simulated-0 1.0 GiB" in world.observer.message("d"))
        inventory.used["simulated-0"] = {}
        await world.until_ready("d")


async def test_a_device_whose_driver_is_silent_takes_no_replica(tmp_path: Path, database: Database) -> None:
    inventory = FakeInventory()
    inventory.is_answering = False
    async with running_world(tmp_path, database, inventory) as world:
        await world.deploy("d")
        await until(lambda: "free: simulated-0 0.0 GiB" in world.observer.message("d"))
        inventory.is_answering = True
        await world.until_ready("d")


async def test_memory_of_a_dead_worker_is_promised_to_nobody_before_it_is_back(
    tmp_path: Path, database: Database
) -> None:
    inventory = FakeInventory()
    async with running_world(tmp_path, database, inventory) as world:
        first = await world.deploy("first", gigabytes=50)
        await world.until_ready("first")
        (view,) = world.views("first")
        assert view.pid is not None
        inventory.used["simulated-0"] = {view.pid: view.reserved_bytes}
        await world.deploy("second", gigabytes=50)
        await world.change(first, desired_replica_count=0)
        await until(lambda: identify(view.pid or 0) is None)
        await until(lambda: world.observer.counts("second") == ReplicaCounts(1, 0, 0, 1, 0))
        inventory.used["simulated-0"] = {}
        await world.until_ready("second")


async def test_killed_workers_come_back_without_help_and_nothing_else_is_touched(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database) as world:
        victim = await world.deploy("victim", desired_replica_count=2)
        await world.deploy("bystander")
        await world.until_ready("victim", 2)
        await world.until_ready("bystander")
        bystander = world.views("bystander")[0].pid
        pids = [view.pid or 0 for view in world.views("victim")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not {view.pid for view in world.views("victim")} & set(pids))
        await world.until_ready("victim", 2)
        assert await world.ask(victim, "hello") == answer("hello")
        assert world.views("bystander")[0].pid == bystander


async def test_a_request_that_ends_its_worker_ends_only_its_replica(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=2, behaviour=FakeModel(step_ms=20.0))
        await world.until_ready("d", 2)
        poison = asyncio.create_task(world.ask(deployment, Script(act=Act.SEGV, at=2).text()))
        await until(lambda: sum(view.num_in_flight for view in world.views("d")) == 1)
        assert await world.ask(deployment, "hello") == answer("hello")
        await asyncio.wait({poison})
        assert "ended" in str(poison.exception())


async def test_a_crash_loop_is_reported_and_tried_again_when_the_deployment_changes(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database, crashes_max=3) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load="exit"))
        await until(lambda: world.observer.counts("d") == ReplicaCounts(1, 0, 0, 0, 1))
        assert world.observer.message("d") == "replica 0 failed: the worker exited with status 3"
        assert world.supervisor.ledger.free_bytes("simulated-0") == 80 * GIB

        FakeModel().write(world.models_dir / "d")
        deployment = await world.change(deployment, display_name="says nothing to a replica")
        await world.deploy("other")
        await world.until_ready("other")
        assert world.observer.counts("d") == ReplicaCounts(1, 0, 0, 0, 1)

        await world.change(deployment, desired_replica_count=2)
        await world.until_ready("d", 2)
        await until(lambda: world.observer.counts("d") == ReplicaCounts(2, 2, 0, 0, 0))
        assert world.observer.message("d") == ""


async def test_a_deployment_without_its_model_waits_for_it(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        await world.deploy("d", base_model="accounts/acme/models/missing")
        await until(lambda: world.observer.message("d") == "accounts/acme/models/missing is not there or not ready")


async def test_a_deployment_being_deleted_is_reported_when_its_last_worker_is_gone(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d")
        await world.until_ready("d")
        pid = world.views("d")[0].pid
        assert pid is not None
        await until(lambda: world.observer.counts("d") == ReplicaCounts(1, 1, 0, 0, 0))
        world.inventory.used["simulated-0"] = {pid: 1}
        await world.change(deployment, state=DeploymentState.DELETING)
        await until(lambda: identify(pid) is None)
        assert world.observer.counts("d") == ReplicaCounts(1, 1, 0, 0, 0)
        world.inventory.used["simulated-0"] = {}
        await until(lambda: world.observer.counts("d") == ReplicaCounts(0, 0, 0, 0, 0))


async def test_workers_of_a_deployment_whose_row_is_gone_are_stopped(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d")
        await world.until_ready("d")
        async with database.transaction() as tx:
            await deployments.delete(tx, deployment.account_id, deployment.id)
        world.supervisor.notify()
        await until(lambda: not world.views("d"))
        assert world.supervisor.ledger.free_bytes("simulated-0") == 80 * GIB


class FailingObserver(RecordingObserver):
    """Fails for one deployment, and for it only."""

    async def observe(
        self, deployment: Deployment, observed: ReplicaCounts, message: str, termination_message: str
    ) -> None:
        if deployment.id == "broken":
            raise RuntimeError("as the test asked")
        await super().observe(deployment, observed, message, termination_message)


async def test_one_deployments_error_does_not_end_the_loop(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        world.supervisor.observer = world.observer = FailingObserver(database)
        await world.deploy("broken", created_at=1.0)
        await world.deploy("d", created_at=2.0)
        await world.until_ready("d")
        await until(lambda: world.observer.counts("d") == ReplicaCounts(1, 1, 0, 0, 0))
        assert world.supervisor.is_running


async def test_leftovers_of_a_killed_daemon_are_ended_before_anything_starts(
    tmp_path: Path, database: Database
) -> None:
    run_dir = prepare_run_dir(tmp_path / "earlier")
    source = "import time; time.sleep(600)"
    leftover = await WorkerProcess.spawn([sys.executable, "-c", source], run_dir, "leftover", [fake_device()], 1)
    innocent = await WorkerProcess.spawn([sys.executable, "-c", source], run_dir, "innocent", [fake_device()], 1)
    assert leftover.identity is not None
    assert innocent.identity is not None
    async with database.transaction() as tx:
        for index, (identity, ticks) in enumerate(
            [(leftover.identity, leftover.identity.started_ticks), (innocent.identity, 1), (leftover.identity, 1)]
        ):
            row = ReplicaRow(
                account_id="acme",
                deployment_id="d",
                index=index,
                device_ids=["simulated-0", "of a box long ago"],
                reserved_bytes=1,
                pid=identity.pid,
                pid_started_ticks=ticks,
                boot_id=identity.boot_id,
                started_at=0.0,
            )
            await replicas.put(tx, row)
    async with running_world(tmp_path, database):
        assert identify(leftover.pid) is None
        assert identify(innocent.pid) == innocent.identity
        assert await stored_pids(database) == []
    await leftover.close()
    await innocent.close()


async def test_closing_lets_requests_finish(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(step_ms=20.0))
        await world.until_ready("d")
        asking = asyncio.create_task(world.ask(deployment, "hello"))
        await until(lambda: world.views("d")[0].num_in_flight == 1)
        await world.supervisor.close(drain_s=60.0)
        assert await asking == answer("hello")
        assert not world.supervisor.is_running


async def test_a_restarted_supervisor_brings_everything_back(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d")
        await world.until_ready("d")
    again = World(tmp_path, database, FakeInventory(), world.settings)
    await again.supervisor.start()
    assert await again.ask(deployment, "hello") == answer("hello")
    await again.supervisor.close(drain_s=0.0)


async def test_the_load_says_what_the_deployment_and_the_device_ask_for(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database, kv_cache_concurrency=2, max_num_requests=7) as world:
        deployment = await world.deploy("d", max_context_length=512)
        async with world.router.lease(deployment, None, wait_s=60.0):
            (replica,) = world.supervisor.outlook(deployment).ready.values()
        settings = llm_settings(replica.plan)
        assert (settings.device, settings.dtype) == ("cpu", "bfloat16")
        assert (settings.max_context_length, settings.max_num_requests) == (512, 7)
        assert settings.memory_budget_bytes == replica.plan.reserved_bytes
        assert replica.plan.load.model_dir == str(world.models_dir / "d")
        assert settings.num_threads >= 1


async def test_the_load_names_the_draft_model_once_it_is_there(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy(
            "d", draft_model="accounts/acme/models/apprentice", draft_token_count=6, ngram_speculation_length=3
        )
        await until(lambda: "apprentice is not there" in world.supervisor.outlook(deployment).waiting_reason)
        await world.deploy("apprentice", desired_replica_count=0)
        async with world.router.lease(deployment, None, wait_s=60.0):
            (replica,) = world.supervisor.outlook(deployment).ready.values()
        speculation = llm_settings(replica.plan).speculation
        assert (speculation.num_draft_tokens, speculation.ngram_length) == (6, 3)
        assert speculation.draft_model is not None
        assert speculation.draft_model.model_dir == str(world.models_dir / "apprentice")


async def test_what_scales_to_zero_sleeps_gives_its_device_to_others_and_wakes_when_there_is_room(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database, host_cache_bytes=200 * GIB) as world:
        first = await world.deploy("first", gigabytes=50, behaviour=FakeModel(host_bytes=7))
        await world.until_ready("first")
        pid = world.views("first")[0].pid
        await world.change(first, desired_replica_count=0)
        await until(lambda: [view.state for view in world.views("first")] == [ReplicaState.ASLEEP])
        assert world.supervisor.host_view().by_owner["accounts/acme/deployments/first/replicas/0"] == 7
        await until(lambda: world.observer.counts("first") == ReplicaCounts(0, 0, 0, 0, 0, asleep=1))

        second = await world.deploy("second", gigabytes=50)
        await world.until_ready("second")
        await world.change(first, desired_replica_count=1)
        await until(lambda: "GiB" in world.observer.message("first"))
        explanation = world.supervisor.explanation("acme", "first")
        assert explanation is not None
        assert explanation.needed_bytes > 50 * GIB
        await world.change(second, state=DeploymentState.DELETING)
        await world.until_ready("first")
        assert world.views("first")[0].pid == pid
        assert world.supervisor.explanation("acme", "first") is None


async def test_who_waits_evicts_who_is_idle_and_the_services_are_told(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database, min_residency_s=0.0) as world:
        await world.deploy("idle", gigabytes=50)
        await world.until_ready("idle")
        newcomer = await world.deploy("newcomer", gigabytes=50)
        assert await world.ask(newcomer, "hello") == answer("hello")
        ((evicted, to_count, reason),) = world.observer.evicted
        assert (evicted, to_count) == ("idle", 0)
        assert "newcomer" in reason
        assert not world.views("idle")


async def test_a_replica_on_several_devices_holds_each_of_them(tmp_path: Path, database: Database) -> None:
    inventory = FakeInventory(fake_device(0), fake_device(1), fake_device(2))
    async with running_world(tmp_path, database, inventory) as world:
        deployment = await world.deploy("wide", gigabytes=100, accelerator_count=2)
        assert await world.ask(deployment, "hello") == answer("hello")
        (view,) = world.views("wide")
        held = [device.by_owner for device in world.supervisor.device_views() if device.by_owner]
        assert held == 2 * [{"accounts/acme/deployments/wide/replicas/0": view.reserved_bytes}]
        assert 50 * GIB < view.reserved_bytes < 60 * GIB


async def test_a_new_revision_replaces_its_replicas_without_losing_a_request(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=2, behaviour=FakeModel(step_ms=5.0))
        await world.until_ready("d", 2)
        old = {view.pid for view in world.views("d")}
        updated = await world.change(deployment, revision=2)
        num_asked = 0
        while any(view.revision != 2 for view in world.views("d")):
            num_asked += 1
            assert await world.ask(updated, f"hello {num_asked}") == answer(f"hello {num_asked}")
        await world.until_ready("d", 2)
        assert not old & {view.pid for view in world.views("d")}
        await until(lambda: world.observer.counts("d") == ReplicaCounts(2, 2, 0, 0, 0))
        assert any(counts.outdated for counts, _ in world.observer.seen["d"])


async def test_a_reservation_moves_others_from_its_device_and_keeps_it_for_its_account(
    tmp_path: Path, database: Database
) -> None:
    inventory = FakeInventory(fake_device(0), fake_device(1))
    async with running_world(tmp_path, database, inventory) as world:
        deployment = await world.deploy("d")
        await world.until_ready("d")
        held = world.views("d")[0].device_ids
        await hold(world, "umbra", held)
        await until(lambda: [view.device_ids != held for view in world.views("d")] == [True])
        assert await world.ask(deployment, "hello") == answer("hello")
        await hold(world, "umbra", world.views("d")[0].device_ids, "another")
        await until(lambda: not world.views("d"))
        await until(lambda: "reserved for another account" in world.observer.message("d"))
        async with database.transaction() as tx:
            await reservations.delete(tx, "umbra", "another")
        world.supervisor.notify()
        await world.until_ready("d")


async def hold(world: World, account_id: str, device_ids: Sequence[str], reservation_id: str = "r") -> None:
    reservation = Reservation(
        account_id=account_id,
        id=reservation_id,
        accelerator_type="any",
        device_ids=list(device_ids),
        starts_at=0.0,
        created_at=0.0,
        updated_at=0.0,
    )
    async with world.database.transaction() as tx:
        if await accounts.get(tx.connection, account_id) is None:
            await accounts.insert(tx, Account(id=account_id, created_at=0.0, updated_at=0.0))
        await reservations.insert(tx, reservation)
    world.supervisor.notify()


async def test_a_claim_takes_memory_until_it_is_released(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        claim = world.supervisor.claim("lease 1", "acme", Priority.LEASE, Demand(50 * GIB, None, 1), may_evict=True)
        assert await claim.granted() == ["simulated-0"]
        await world.deploy("d", gigabytes=50)
        await until(lambda: "needs 50." in world.observer.message("d"))
        later = world.supervisor.claim("job 1", "acme", Priority.JOB, Demand(50 * GIB, None, 1), may_evict=True)
        await until(lambda: later.explanation is not None)
        later.release()
        claim.release()
        await world.until_ready("d")


async def test_a_load_teaches_how_long_the_next_takes(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=0.3))
        await world.until_ready("d")
        await world.change(deployment, desired_replica_count=0)
        await until(lambda: not world.views("d"))
    again = World(tmp_path, database, FakeInventory(), world.settings)
    await again.supervisor.start()
    deployment = await again.change(deployment, desired_replica_count=1)
    await until(lambda: again.supervisor.outlook(deployment).cold_start is not None)
    load_s = again.supervisor.outlook(deployment).load_s
    assert load_s is not None
    assert 0.3 <= load_s < 60.0, "the daemon before has learned it"
    await again.supervisor.close(drain_s=0.0)


async def test_scaling_what_has_failed_to_the_same_count_tries_again(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        behaviour = FakeModel(load="refuse", log_lines=["no such tensor"])
        deployment = await world.deploy("d", behaviour=behaviour)
        await until(lambda: world.observer.counts("d") == ReplicaCounts(1, 0, 0, 0, 1))
        assert world.observer.last_words["d"] == "no such tensor\nthe fake model is not to be served"
        FakeModel().write(world.models_dir / "d")
        await world.change(deployment, updated_at=deployment.updated_at + 1.0)
        await world.until_ready("d")
        await until(lambda: world.observer.last_words["d"] == "")


async def test_memory_that_the_driver_keeps_is_shown_and_placed_around_until_it_comes_back(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.orchestrator.replica.MEMORY_RETURN_TIMEOUT_S", 0.1)
    monkeypatch.setattr("appliance.orchestrator.memory_watch.RECOVERY_INTERVAL_S", 0.1)
    inventory = FakeInventory(fake_device(0), fake_device(1))
    async with running_world(tmp_path, database, inventory) as world:
        await world.deploy("d", gigabytes=50)
        await world.until_ready("d")
        (view,) = world.views("d")
        assert view.pid is not None
        inventory.used[view.device_ids[0]] = {view.pid: view.reserved_bytes}
        os.kill(view.pid, signal.SIGKILL)
        await until(lambda: [again.device_ids for again in world.views("d")] not in ([], [view.device_ids]))
        sick = next(device for device in world.supervisor.device_views() if device.device.id == view.device_ids[0])
        assert sick.by_owner == {UNRETURNED_OWNER: view.reserved_bytes}
        inventory.used[view.device_ids[0]] = {}
        await until(lambda: world.supervisor.ledger.free_bytes(view.device_ids[0]) == 80 * GIB)
