"""Spare workers: processes that have imported their libraries, and made their device context, before anyone needs one.

Owns each spare's process, connection, reservation and row until `take` hands it over; after that all four are the
taker's. A spare is a luxury: it holds memory that is free, ends as soon as somebody else needs it, and is started only
while nothing loads. Never loads a model.
"""

import asyncio
import logging
import os
import random
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.config import GIB, MIB, FleetSettings
from appliance.domain import ReplicaRow, ReplicaState
from appliance.errors import HearthError
from appliance.orchestrator.gpus import CPU, Device, Inventory, wait_for_memory
from appliance.orchestrator.health import CrashRecord, find_stall
from appliance.orchestrator.ledger import Ledger, Overcommitted
from appliance.orchestrator.process import WorkerProcess
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.racing import first_of
from appliance.orchestrator.worker_client import WorkerClient, WorkerLost
from appliance.store import replicas
from appliance.store.database import Database

logger = logging.getLogger(__name__)

OWNER = "spare worker"
"""In the ledger, followed by its number."""
ROW_DEPLOYMENT_ID = "spare"
"""Their rows stand among those of replicas, under no account, where the sweep after a crash finds them."""
GREETING_TIMEOUT_S = 5.0
"""For one that was just started to be ready to be taken."""
ESTIMATED_BYTES = {True: GIB, False: 512 * MIB}
"""By whether the device is CUDA's: reserved for the first; what one has measured is reserved for the next."""


class SpareView(msgspec.Struct, frozen=True, kw_only=True):
    """For displays."""

    pid: int
    device_id: str
    is_prepared: bool
    reserved_bytes: int


class Taken(NamedTuple):
    worker: WorkerProcess
    client: WorkerClient


class _Slot:
    """A place for one spare, filled again and again."""

    def __init__(self, index: int, device: Device) -> None:
        self.index = index
        self.device = device
        self.owner = f"{OWNER} {index}"
        self.is_live = False
        """Whether one is in it, or about to be."""
        self.worker: WorkerProcess | None = None
        self.client: WorkerClient | None = None
        self.is_greeted = False
        self.reserved_bytes = 0
        self.left = asyncio.Event()
        """Set for the one in it to leave: it was taken, or has to make room."""

    @property
    def is_takeable(self) -> bool:
        return self.is_greeted and self.client is not None and not self.client.lost.done()

    @property
    def is_prepared(self) -> bool:
        return self.client is not None and self.client.prepared.done()

    def clear(self) -> None:
        self.is_live = self.is_greeted = False
        self.worker = self.client = None


class Spares:
    """`start`, then `take` as often as wanted, then `close`."""

    def __init__(
        self, settings: FleetSettings, database: Database, inventory: Inventory, ledger: Ledger, quiet: Quiet
    ) -> None:
        self._settings = settings
        self._database = database
        self._inventory = inventory
        self._ledger = ledger
        self._quiet = quiet
        self._run_dir = self._kernel_cache = Path()
        self._slots = [_Slot(index, device) for index, device in enumerate(_places(settings, inventory.devices))]
        self._keepers: list[asyncio.Task[None]] = []
        self._measured_bytes: int | None = None
        self._changed = asyncio.Event()

    async def start(self, run_dir: Path, kernel_cache: Path) -> None:
        """Only after leftovers of an earlier daemon have been ended. Both directories are there."""
        self._run_dir, self._kernel_cache = run_dir, kernel_cache
        self._quiet.announce()  # the daemon itself is starting, and its first request may be on its way
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
        for keeper in self._keepers:
            keeper.add_done_callback(_log_failure)

    async def close(self) -> None:
        """End those that nobody took."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    # ---- for replicas

    async def take(self, device: Device) -> Taken | None:
        """A live worker that has greeted and waits for Load, prepared or nearly so; None where there is none.

        What it had reserved is free when this returns, so take it before you reserve. Its row stays until the next
        spare's takes its place: write the replica's own first thing.
        """
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                while starting := [slot for slot in self._slots if slot.is_live and _suits(slot.device, device)]:
                    if takeable := [slot for slot in starting if slot.is_takeable]:
                        return self._hand_over(max(takeable, key=lambda slot: slot.is_prepared))
                    await self._changed.wait()  # one was started a moment ago, and another would take no less time
        except TimeoutError:
            logger.warning("no spare worker has greeted for %g s", GREETING_TIMEOUT_S)
        return None

    async def make_room(self, device_ids: Collection[str]) -> None:
        """End the spares on these devices; returns when their memory is back."""
        leaving = [slot for slot in self._slots if slot.device.id in device_ids and slot.reserved_bytes]
        for slot in leaving:
            slot.left.set()
        self._quiet.announce()  # whoever needs it is about to take it, and none is to be quicker
        while any(slot.reserved_bytes and slot.left.is_set() for slot in leaving):
            await self._changed.wait()

    def held_bytes(self, device_id: str) -> int:
        """What `make_room` would free."""
        return sum(slot.reserved_bytes for slot in self._slots if slot.device.id == device_id)

    def pids(self) -> set[int]:
        return {slot.worker.pid for slot in self._slots if slot.worker is not None}

    def views(self) -> list[SpareView]:
        return [
            SpareView(
                pid=slot.worker.pid,
                device_id=slot.device.id,
                is_prepared=slot.is_prepared,
                reserved_bytes=slot.reserved_bytes,
            )
            for slot in self._slots
            if slot.worker is not None
        ]

    def _hand_over(self, slot: _Slot) -> Taken:
        worker, client = slot.worker, slot.client
        assert worker is not None
        assert client is not None
        slot.clear()
        slot.left.set()
        self._release(slot)
        self._quiet.announce()
        return Taken(worker, client)

    # ---- one slot's life

    async def _keep(self, slot: _Slot) -> None:
        crashes = CrashRecord(self._settings)
        while True:
            await self._quiet.wait()
            if not self._reserve(slot, self._bytes_for(slot.device)):
                await asyncio.sleep(self._settings.supervisor_interval_s)
                continue
            reason = await self._live(slot)
            if reason:
                pause_s = crashes.add(asyncio.get_running_loop().time(), jitter=random.random())
                logger.warning("%s ended: %s", slot.owner, reason)
                await asyncio.sleep(self._settings.crash_window_s if pause_s is None else pause_s)

    async def _live(self, slot: _Slot) -> str:
        """One spare from its start to its end or its taking; says what went wrong, if anything did."""
        slot.left.clear()
        slot.is_live = True
        try:
            worker = slot.worker = await self._spawn(slot)
            await self._record(slot, worker)
            return await first_of(_left(slot), worker.wait(), self._serve(slot, worker))
        except (OSError, WorkerLost, HearthError) as error:
            return str(error)
        finally:
            if slot.is_live:
                await self._bury(slot)

    async def _serve(self, slot: _Slot, worker: WorkerProcess) -> str:
        """Make it takeable; returns why it is of no more use."""
        loop = asyncio.get_running_loop()
        slot.client = client = WorkerClient(*await worker.accept(), worker.pid)
        await client.greet()
        slot.is_greeted = True
        self._announce()
        try:
            async with asyncio.timeout(self._settings.load_stall_timeout_s):
                prepared = await asyncio.shield(client.prepared)
        except TimeoutError:
            return f"it was not prepared within {self._settings.load_stall_timeout_s:g} s"
        client.vitals.note_loaded(loop.time())
        logger.info("%s is prepared and holds %d MiB", slot.owner, prepared.footprint_bytes // MIB)
        self._measured_bytes = prepared.footprint_bytes
        if not self._correct(slot, prepared.footprint_bytes):
            return "it holds more memory than is free"
        while not client.lost.done():
            await asyncio.sleep(self._settings.heartbeat_timeout_s / 10)
            if reason := find_stall(ReplicaState.READY, client.vitals, loop.time(), self._settings):
                return reason
        return client.lost.result()

    async def _spawn(self, slot: _Slot) -> WorkerProcess:
        return await WorkerProcess.spawn(
            [*self._settings.worker_command, "--kind", "spare"],
            run_dir=self._run_dir,
            label=slot.owner,
            devices=[slot.device],
            num_threads=max(1, len(os.sched_getaffinity(0)) // len(self._inventory.devices)),
            kernel_cache=self._kernel_cache,
        )

    async def _record(self, slot: _Slot, worker: WorkerProcess) -> None:
        if worker.identity is None:
            return  # it is dead already
        async with self._database.transaction() as tx:
            row = ReplicaRow(
                account_id="",
                deployment_id=ROW_DEPLOYMENT_ID,
                index=slot.index,
                device_ids=[slot.device.id],
                reserved_bytes=slot.reserved_bytes,
                pid=worker.identity.pid,
                pid_started_ticks=worker.identity.started_ticks,
                boot_id=worker.identity.boot_id,
                started_at=tx.now,
            )
            await replicas.put(tx, row)

    async def _bury(self, slot: _Slot) -> None:
        worker, client = slot.worker, slot.client
        slot.clear()
        if client is not None:
            await client.close("the spare worker is being stopped")
        if worker is not None:
            await worker.close()
            if not await wait_for_memory(self._inventory, slot.device.id, worker.pid):
                logger.error("%s: %s still counts memory of its dead worker", slot.owner, slot.device.id)
        self._release(slot)
        try:
            async with self._database.transaction() as tx:
                await replicas.delete(tx, "", ROW_DEPLOYMENT_ID, slot.index)
        except HearthError as error:
            # Harmless: the row names a process that is gone, and the next start strikes it out.
            logger.error("%s: the row of its dead worker stays: %s", slot.owner, error.message)

    # ---- reservations

    def _bytes_for(self, device: Device) -> int:
        return self._measured_bytes or ESTIMATED_BYTES[device.is_cuda]

    def _reserve(self, slot: _Slot, num_bytes: int) -> bool:
        """Whether there is room for it now. A simulated device's memory is not what its workers really use."""
        if not slot.device.is_cuda and slot.device.accelerator_type != CPU:
            return True
        try:
            self._ledger.reserve(slot.owner, [slot.device.id], num_bytes)
        except Overcommitted:
            return False
        slot.reserved_bytes = num_bytes
        return True

    def _correct(self, slot: _Slot, num_bytes: int) -> bool:
        """Whether there is room for what it was measured to hold."""
        if slot.reserved_bytes:
            try:
                self._ledger.resize(slot.owner, num_bytes)
            except Overcommitted:
                return False
            slot.reserved_bytes = num_bytes
        return True

    def _release(self, slot: _Slot) -> None:
        self._ledger.release(slot.owner)
        slot.reserved_bytes = 0
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _places(settings: FleetSettings, devices: list[Device]) -> list[Device]:
    """The device of each spare: so many for every GPU, else so many in all."""
    gpus = [device for device in devices if device.is_cuda] or devices[:1]
    return [device for device in gpus for _ in range(settings.num_spare_workers)]


def _suits(own: Device, wanted: Device) -> bool:
    """A spare on the CPU can work for any device that is no GPU."""
    return own.id == wanted.id if own.is_cuda else not wanted.is_cuda


async def _left(slot: _Slot) -> str:
    await slot.left.wait()
    return ""


def _log_failure(keeper: "asyncio.Task[None]") -> None:
    """There will be no spare from it any more, which is no reason to end anything else."""
    if not keeper.cancelled() and (error := keeper.exception()) is not None:
        logger.error("no spare worker is kept ready any more", exc_info=error)
