import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance.config import GIB, MIB
from appliance.orchestrator.gpus import CPU, Device
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.process import identify, prepare_run_dir
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.spares import ESTIMATED_BYTES, Spares, SpareView
from appliance.store import replicas
from appliance.store.database import Database
from runtime.protocol import Load
from runtime.settings import LlmSettings
from tests.appliance.orchestrator.samples import sample_settings
from tests.fakes.fake_gpus import FakeInventory, fake_device
from tests.waiting import until

HOST = Device(id="cpu", index=0, accelerator_type=CPU, memory_bytes=4 * GIB, is_cuda=False)
NEEDED = ESTIMATED_BYTES[False]


class Stage:
    """Spares, and everything around them, on one device that is the host."""

    def __init__(self, database: Database, settle_s: float, devices: tuple[Device, ...], **changes: Any) -> None:
        self.inventory = FakeInventory(*devices)
        self.ledger = Ledger(devices)
        self.quiet = Quiet(settle_s)
        self.database = database
        self.spares = Spares(
            sample_settings(**{"num_spare_workers": 1} | changes), database, self.inventory, self.ledger, self.quiet
        )

    async def until_prepared(self) -> SpareView:
        await until(lambda: self.spares.views() and all(view.is_prepared for view in self.spares.views()))
        return self.spares.views()[0]

    async def rows(self) -> list[int]:
        async with self.database.reader() as db:
            return [row.pid for row in await replicas.list_all(db)]


@asynccontextmanager
async def stage(
    database: Database, tmp_path: Path, settle_s: float = 0.0, devices: tuple[Device, ...] = (HOST,), **changes: Any
) -> AsyncIterator[Stage]:
    stage = Stage(database, settle_s, devices, **changes)
    await stage.spares.start(prepare_run_dir(tmp_path / "run"), tmp_path / "kernel-cache")
    try:
        yield stage
    finally:
        await stage.spares.close()
        assert await stage.rows() == []
        assert stage.spares.views() == []


async def test_a_spare_is_there_prepared_with_a_reservation_and_a_row(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path) as s:
        spare = await s.until_prepared()
        assert await s.rows() == [spare.pid]
        assert s.spares.pids() == {spare.pid}
        await until(lambda: s.ledger.by_owner("cpu") == {"spare worker 0": 1})  # what the fake says to hold
        assert s.spares.held_bytes("cpu") == 1
        assert "spare" in psutil.Process(spare.pid).cmdline()
    assert identify(spare.pid) is None
    assert s.ledger.by_owner("cpu") == {}


async def test_taking_it_hands_over_a_live_worker_and_another_follows(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path) as s:
        spare = await s.until_prepared()
        taken = await s.spares.take(HOST)
        assert taken is not None
        worker, client = taken
        assert worker.pid == spare.pid
        assert not s.spares.held_bytes("cpu"), "its memory is free for the taker to reserve"
        settings = LlmSettings(device="cpu", dtype="float32", memory_budget_bytes=1, max_context_length=64)
        load = Load(model_dir=str(tmp_path), file_sha256={}, settings=settings)
        assert (await client.load(load)).max_context_length == 64
        await until(lambda: s.spares.pids() - {spare.pid})
        await until(lambda: s.spares.views()[0].is_prepared)
    assert identify(spare.pid) is not None, "it is no spare any more"
    await client.close("the test is over")
    await worker.close()


async def test_one_that_has_just_been_started_is_waited_for(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path) as s:
        await until(s.spares.views)
        taken = await s.spares.take(HOST)
        assert taken is not None
        await taken.client.close("the test is over")
        await taken.worker.close()


async def test_no_spare_is_started_while_something_loads(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path) as s:
        await s.until_prepared()
        with s.quiet.loading():
            taken = await s.spares.take(HOST)
            assert taken is not None
            await asyncio.sleep(0.05)
            assert s.spares.views() == []
            assert await s.spares.take(HOST) is None
        await s.until_prepared()
        await taken.client.close("the test is over")
        await taken.worker.close()


async def test_a_dead_spare_is_noticed_and_replaced(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path) as s:
        spare = await s.until_prepared()
        os.kill(spare.pid, signal.SIGKILL)
        await until(lambda: s.spares.pids() and spare.pid not in s.spares.pids())
        replacement = await s.until_prepared()
        assert await s.rows() == [replacement.pid]


async def test_it_leaves_for_whoever_needs_the_room_and_stays_away(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path) as s:
        spare = await s.until_prepared()
        s.inventory.used["cpu"] = {spare.pid: MIB}
        leaving = asyncio.create_task(s.spares.make_room({"cpu"}))
        await until(lambda: identify(spare.pid) is None)
        assert not leaving.done(), "the device still counts its memory"
        s.inventory.used["cpu"] = {}
        await asyncio.wait_for(leaving, 60)
        s.ledger.reserve("somebody", ["cpu"], 4 * GIB)  # in the same breath
        await asyncio.sleep(0.3)
        assert s.spares.views() == []
        s.ledger.release("somebody")
        await s.until_prepared()


async def test_only_free_memory_is_taken(database: Database, tmp_path: Path) -> None:
    crowded = Device(id="cpu", index=0, accelerator_type=CPU, memory_bytes=NEEDED - 1, is_cuda=False)
    async with stage(database, tmp_path, devices=(crowded,)) as s:
        await asyncio.sleep(0.3)
        assert s.spares.views() == []
        assert await s.spares.take(crowded) is None


async def test_simulated_devices_share_spares_that_reserve_nothing(database: Database, tmp_path: Path) -> None:
    devices = (fake_device(0), fake_device(1))
    async with stage(database, tmp_path, devices=devices, num_spare_workers=2) as s:
        await s.until_prepared()
        await until(lambda: len(s.spares.views()) == 2)
        assert s.ledger.by_owner("simulated-0") == {}
        for device in devices:
            taken = await s.spares.take(device)
            assert taken is not None
            await taken.client.close("the test is over")
            await taken.worker.close()


@pytest.mark.parametrize("num_spare_workers", [0])
async def test_none_are_kept_where_none_are_wanted(database: Database, tmp_path: Path, num_spare_workers: int) -> None:
    async with stage(database, tmp_path, num_spare_workers=num_spare_workers) as s:
        assert await s.spares.take(HOST) is None
        await s.spares.make_room({"cpu"})


async def test_a_command_that_cannot_be_started_is_tried_again_later(database: Database, tmp_path: Path) -> None:
    async with stage(database, tmp_path, worker_command=["/nonexistent/worker"]) as s:
        assert await s.spares.take(HOST) is None
        assert s.spares.held_bytes("cpu") == 0 or await s.rows() == []
