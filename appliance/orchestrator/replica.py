"""One replica: one worker process at a time, kept alive until it is asked to stop or has crashed too often.

`run` alone moves its state; others read it for display, or take a lease on it in the same breath. A worker's row is
stored before the worker is used and removed when it is dead and its memory is back. Never places, never reserves.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from appliance.config import FleetSettings
from appliance.domain import ReplicaRow, ReplicaState
from appliance.errors import HearthError
from appliance.orchestrator.gpus import Device, Inventory, wait_for_memory
from appliance.orchestrator.health import CrashRecord, Vitals, find_stall
from appliance.orchestrator.process import WorkerProcess
from appliance.orchestrator.worker_client import DISCONNECTED, LoadRefused, WorkerClient, WorkerLost
from appliance.store import replicas
from appliance.store.database import Database
from runtime.protocol import FailureCode, Load

logger = logging.getLogger(__name__)

EXIT_STATUS_GRACE_S = 0.5
"""After its connection closed, for a worker to exit by itself: its status says more."""

TRANSITIONS: dict[ReplicaState, set[ReplicaState]] = {
    ReplicaState.STOPPED: {ReplicaState.STARTING},
    ReplicaState.STARTING: {ReplicaState.LOADING, ReplicaState.STOPPING},
    ReplicaState.LOADING: {ReplicaState.READY, ReplicaState.STOPPING},
    ReplicaState.READY: {ReplicaState.DRAINING, ReplicaState.STOPPING},
    ReplicaState.DRAINING: {ReplicaState.STOPPING},
    ReplicaState.STOPPING: {ReplicaState.STOPPED, ReplicaState.FAILED},
    ReplicaState.FAILED: {ReplicaState.STARTING, ReplicaState.STOPPED},
}

T = TypeVar("T")


class ReplicaPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which worker to run, and where."""

    account_id: str
    deployment_id: str
    deployment_name: str
    index: int
    device: Device
    reserved_bytes: int
    load: Load

    @property
    def label(self) -> str:
        """For logs, and as owner of its reservation."""
        return f"{self.deployment_name}/replicas/{self.index}"


class Ending(NamedTuple):
    """Why a worker's life is over."""

    reason: str
    is_asked: bool = False
    is_final: bool = False
    """Another try would end the same way."""


class Replica:
    def __init__(
        self,
        plan: ReplicaPlan,
        *,
        settings: FleetSettings,
        database: Database,
        inventory: Inventory,
        run_dir: Path,
        on_change: Callable[["Replica"], None],
    ) -> None:
        self.plan = plan
        self.state = ReplicaState.STOPPED
        self.reason = ""
        """Why its last worker ended unasked."""
        self.has_given_up = False
        self.client: WorkerClient | None = None
        self.worker: WorkerProcess | None = None
        self.load_s: float | None = None
        """From spawn to READY, of the worker that serves."""
        self._settings = settings
        self._database = database
        self._inventory = inventory
        self._run_dir = run_dir
        self._on_change = on_change
        self._stop_asked = asyncio.Event()
        self._drain_s = 0.0
        self._num_leases = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Returns in STOPPED when it was asked to stop, in FAILED when it has given up."""
        crashes = CrashRecord(self._settings)
        while True:
            ending = await self._live()
            if ending.is_asked:
                self._move(ReplicaState.STOPPED)
                return
            self.reason = ending.reason
            self._move(ReplicaState.FAILED)
            pause_s = crashes.add(asyncio.get_running_loop().time(), jitter=random.random())
            if ending.is_final or pause_s is None:
                self.give_up(ending.reason)
                return
            logger.warning("%s failed: %s; the next try is in %.1f s", self.plan.label, ending.reason, pause_s)
            if await is_done_within(self._stop_asked.wait(), pause_s):
                self._move(ReplicaState.STOPPED)
                return

    def stop(self, drain_s: float) -> None:
        """Take no new request, let those that run finish for so long, then end."""
        if not self._stop_asked.is_set():
            self._drain_s = drain_s
            self._stop_asked.set()

    def give_up(self, reason: str) -> None:
        """Stay down; what the last worker said stands in the log."""
        self.reason = reason
        self.has_given_up = True
        lines = self.worker.log.lines if self.worker is not None else []
        logger.error("%s has given up: %s\n%s", self.plan.label, reason, "\n".join(lines))
        self._on_change(self)

    # ---- leases

    @property
    def load(self) -> int:
        """Leases held, each for one request."""
        return self._num_leases

    @property
    def is_ready(self) -> bool:
        """Whether `acquire` would find a live connection; a lost one is noticed before the state says so."""
        return self.state is ReplicaState.READY and self.client is not None and not self.client.lost.done()

    def acquire(self) -> WorkerClient:
        """A lease on a READY replica; it does not stop by itself before the lease is released."""
        assert self.state is ReplicaState.READY, f"{self.plan.label} is {self.state}"
        assert self.client is not None
        self._num_leases += 1
        self._idle.clear()
        return self.client

    def release(self) -> None:
        self._num_leases -= 1
        if self._num_leases == 0:
            self._idle.set()

    # ---- one worker's life

    def _move(self, state: ReplicaState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.plan.label}: {self.state} cannot become {state}"
        logger.info("%s: %s -> %s", self.plan.label, self.state, state)
        self.state = state
        self._on_change(self)

    async def _live(self) -> Ending:
        self._move(ReplicaState.STARTING)
        self.worker = None
        try:
            worker = await self._spawn()
        except OSError as error:
            self._move(ReplicaState.STOPPING)
            return Ending(f"the worker cannot be started: {error.strerror}")
        self.worker = worker
        ending = Ending("the supervisor was interrupted")
        is_polite = False
        try:
            await self._record(worker)
            ending = await first_of(self._stopped(), self._ended(worker), self._serve(worker), self._stalled())
            is_polite = ending.is_asked and self.state is ReplicaState.READY
            if is_polite:
                await self._drain(worker)
        except HearthError as error:
            ending = Ending(f"the worker could not be recorded: {error.message}")
        finally:
            self._move(ReplicaState.STOPPING)
            await self._bury(worker, is_polite)
        return ending

    async def _spawn(self) -> WorkerProcess:
        plan = self.plan
        return await WorkerProcess.spawn(
            [
                *self._settings.worker_command,
                *("--kind", plan.load.kind, "--deployment", plan.deployment_name, "--replica", str(plan.index)),
            ],
            run_dir=self._run_dir,
            label=plan.label,
            device=plan.device,
            num_threads=plan.load.settings.num_threads,
        )

    async def _record(self, worker: WorkerProcess) -> None:
        if worker.identity is None:
            return  # it is dead already
        async with self._database.transaction() as tx:
            row = ReplicaRow(
                account_id=self.plan.account_id,
                deployment_id=self.plan.deployment_id,
                index=self.plan.index,
                device_ids=[self.plan.device.id],
                reserved_bytes=self.plan.reserved_bytes,
                pid=worker.identity.pid,
                pid_started_ticks=worker.identity.started_ticks,
                boot_id=worker.identity.boot_id,
                started_at=tx.now,
            )
            await replicas.put(tx, row)

    async def _strike_out(self) -> None:
        try:
            async with self._database.transaction() as tx:
                await replicas.delete(tx, self.plan.account_id, self.plan.deployment_id, self.plan.index)
        except HearthError as error:
            # Harmless: the row names a process that is gone, and the next start strikes it out.
            logger.error("%s: the row of its dead worker stays: %s", self.plan.label, error.message)

    async def _stopped(self) -> Ending:
        await self._stop_asked.wait()
        return Ending("it was asked to stop", is_asked=True)

    async def _ended(self, worker: WorkerProcess) -> Ending:
        return Ending(await worker.wait())

    async def _serve(self, worker: WorkerProcess) -> Ending:
        """Bring it to READY; returns when its connection is lost."""
        spawned_at = asyncio.get_running_loop().time()
        client = self.client = WorkerClient(*await worker.accept(), worker.pid)
        try:
            await client.greet()
            self._move(ReplicaState.LOADING)
            await client.load(self.plan.load)
        except LoadRefused as refusal:
            return Ending(refusal.message, is_final=refusal.code is not FailureCode.INTERNAL)
        except WorkerLost:
            pass
        else:
            self.load_s = asyncio.get_running_loop().time() - spawned_at
            self._move(ReplicaState.READY)
        reason = await asyncio.shield(client.lost)
        if reason == DISCONNECTED:
            await asyncio.sleep(EXIT_STATUS_GRACE_S)
        return Ending(reason)

    async def _stalled(self) -> Ending:
        loop = asyncio.get_running_loop()
        newborn = Vitals.of_newborn(loop.time())
        interval_s = min(self._settings.heartbeat_timeout_s, self._settings.load_stall_timeout_s) / 10
        while True:
            slept_at = loop.time()
            await asyncio.sleep(interval_s)
            if loop.time() - slept_at > 2 * interval_s:
                continue  # it was this loop that stood still; let it read what has arrived before it judges
            vitals = self.client.vitals if self.client is not None else newborn
            if reason := find_stall(self.state, vitals, loop.time(), self._settings):
                return Ending(reason)

    async def _drain(self, worker: WorkerProcess) -> None:
        """Until the last lease is released, its time is over, or the worker ends by itself."""
        self._move(ReplicaState.DRAINING)
        if self._idle.is_set():
            return
        if not await is_done_within(first_of(self._idle.wait(), worker.wait()), self._drain_s):
            logger.warning("%s: %d requests did not finish within %g s", self.plan.label, self.load, self._drain_s)

    async def _bury(self, worker: WorkerProcess, is_polite: bool) -> None:
        """End it for certain: its requests answered, its process dead, its memory back, its row removed."""
        if is_polite and self.client is not None:
            self.client.shut_down()
            await is_done_within(worker.wait(), self._settings.stop_timeout_s)
        if self.client is not None:
            await self.client.close("the worker is being stopped")
        await worker.close()
        if not await wait_for_memory(self._inventory, self.plan.device.id, worker.pid):
            logger.error("%s: %s still counts memory of its dead worker", self.plan.label, self.plan.device.id)
        self.client = None
        self.load_s = None
        await self._strike_out()


async def first_of(*contenders: Coroutine[Any, Any, T]) -> T:
    """The result of whichever ends first, in this order when several have; the others are cancelled."""
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def is_done_within(work: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Whether it came to its end in time; it is cancelled otherwise."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True
