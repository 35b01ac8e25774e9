import sys
from pathlib import Path

import pytest

from appliance.domain import ReplicaRow
from appliance.orchestrator.leftovers import end_leftovers, record_worker, strike_out_worker
from appliance.orchestrator.process import WorkerProcess, identify, prepare_run_dir
from appliance.store import replicas
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import sample_plan
from tests.fakes.fake_gpus import FakeInventory, fake_device


async def spawn(tmp_path: Path) -> WorkerProcess:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    return await WorkerProcess.spawn(command, prepare_run_dir(tmp_path / "run"), "leftover", [fake_device()], 1)


async def rows(database: Database) -> list[ReplicaRow]:
    async with database.reader() as db:
        return await replicas.list_all(db)


async def test_a_recorded_worker_is_ended_by_the_next_daemon(tmp_path: Path, database: Database) -> None:
    worker = await spawn(tmp_path)
    plan = sample_plan(devices=(fake_device(0), fake_device(1)), reserved_bytes=7)
    await record_worker(database, plan, worker)
    (row,) = await rows(database)
    assert (row.device_ids, row.reserved_bytes) == (["simulated-0", "simulated-1"], 7)
    await end_leftovers(database, FakeInventory())
    assert identify(worker.pid) is None
    assert await rows(database) == []
    await worker.close()


async def test_a_worker_that_is_struck_out_is_left_alone(tmp_path: Path, database: Database) -> None:
    worker = await spawn(tmp_path)
    await record_worker(database, sample_plan(), worker)
    await strike_out_worker(database, sample_plan())
    await end_leftovers(database, FakeInventory())
    assert identify(worker.pid) == worker.identity
    await worker.close()


async def test_a_row_that_cannot_be_removed_waits_for_the_next_start(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await spawn(tmp_path)
    await record_worker(database, sample_plan(), worker)
    await worker.close()
    database.failed.set()
    await strike_out_worker(database, sample_plan())
    database.failed.clear()
    assert "the row of its dead worker stays" in caplog.text
    await end_leftovers(database, FakeInventory())
    assert await rows(database) == []
