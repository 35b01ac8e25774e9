"""One replica: one worker process at a time, kept alive until it is asked to stop or has crashed too often.

`run` alone moves its state; others read it for display, or take a lease on it in the same breath. A worker's row is
stored before the worker is used and removed when it is dead and its memory is back. Never places, never reserves: who
does is told of every move by `on_change` before anything else can happen, and by `on_idle` when its last request ends.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import NamedTuple

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from appliance.errors import HearthError
from appliance.orchestrator.assignment import ReplicaPlan as ReplicaPlan  # what a replica is made of
from appliance.orchestrator.gpus import MEMORY_RETURN_TIMEOUT_S, Inventory, wait_for_memory
from appliance.orchestrator.health import CrashRecord, Vitals, find_stall
from appliance.orchestrator.launching import Launched, Launcher, Worker
from appliance.orchestrator.leftovers import record_worker, strike_out_worker
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.racing import first_of, is_done_within
from appliance.orchestrator.worker_client import DISCONNECTED, LoadRefused, WorkerClient, WorkerLost
from appliance.store.database import Database
from runtime.message import FailureCode
from runtime.protocol import Loaded

logger = logging.getLogger(__name__)

EXIT_STATUS_GRACE_S = 0.5
"""After its connection closed, for a worker to exit by itself: its status says more."""

TRANSITIONS: dict[ReplicaState, set[ReplicaState]] = {
    ReplicaState.STOPPED: {ReplicaState.STARTING},
    ReplicaState.STARTING: {ReplicaState.LOADING, ReplicaState.STOPPING},
    ReplicaState.LOADING: {ReplicaState.READY, ReplicaState.STOPPING},
    ReplicaState.READY: {ReplicaState.DRAINING, ReplicaState.STOPPING},
    ReplicaState.DRAINING: {ReplicaState.ASLEEP, ReplicaState.STOPPING},
    ReplicaState.ASLEEP: {ReplicaState.LOADING, ReplicaState.STOPPING},
    ReplicaState.STOPPING: {ReplicaState.STOPPED, ReplicaState.FAILED},
    ReplicaState.FAILED: {ReplicaState.STARTING, ReplicaState.STOPPED},
}
_POLITE = (ReplicaState.READY, ReplicaState.DRAINING, ReplicaState.ASLEEP)
"""States in which a worker understands Shutdown."""


class Surroundings(NamedTuple):
    """What every replica of a box shares."""

    settings: FleetSettings
    database: Database
    inventory: Inventory
    launcher: Launcher
    quiet: Quiet
    clock: Callable[[], float]
    """Unix time that never jumps."""


class Measurement(NamedTuple):
    """Of one load, from its worker's start to READY."""

    loaded: Loaded
    load_s: float
    is_warm: bool
    """By a spare worker."""


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
        around: Surroundings,
        on_change: Callable[["Replica"], None],
        on_idle: Callable[[], None] = lambda: None,
        crashes: CrashRecord | None = None,
    ) -> None:
        """`crashes`: those of the replica whose place it takes; they count on."""
        self.plan = plan
        self.state = ReplicaState.STOPPED
        self.reason = ""
        """Why its last worker ended unasked."""
        self.has_given_up = False
        self.client: WorkerClient | None = None
        self.worker: Worker | None = None
        self.measurement: Measurement | None = None
        """Of the worker that serves or sleeps."""
        self.is_warm = False
        """Whether its worker began as a spare one."""
        self.began_at: float | None = None
        """When the load or the waking that is under way began."""
        self.ready_at: float | None = None
        """When it last became READY."""
        self.idle_since: float | None = None
        """When its last request ended, or it became READY; None while it has one."""
        self.holds_devices = True
        """False while it sleeps: its reservation is with others."""
        self.host_bytes = 0
        """Measured when it fell asleep."""
        self.residual_bytes = 0
        """Likewise: what a sleeping worker cannot give back of each device."""
        self.unreturned: dict[str, int] = {}
        """Devices that still count memory of its dead worker, and the pid of that."""
        self._around = around
        self._settings = around.settings
        self._on_change = on_change
        self._on_idle = on_idle
        self._crashes = crashes or CrashRecord(around.settings)
        self._stop_asked = asyncio.Event()
        self._leave_by: float | None = None
        """Loop time when draining ends; None: when the last request does."""
        self._hurried = asyncio.Event()
        self._sleep_asked = asyncio.Event()
        self._wake_asked = asyncio.Event()
        self._is_measurement_news = False
        self._is_handing_back = False
        """Whether the worker is moving its weights to host memory."""
        self._num_leases = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Returns in STOPPED when it was asked to stop, or ended asleep; in FAILED when it has given up."""
        while True:
            ending, idle_service_s = await self._live()
            if ending.is_asked or self.is_leaving:
                self._move(ReplicaState.STOPPED)
                return
            self.reason = ending.reason
            self._move(ReplicaState.FAILED)
            now = asyncio.get_running_loop().time()
            pause_s = self._crashes.add(now, jitter=random.random(), idle_service_s=idle_service_s)
            if ending.is_final or pause_s is None:
                self.give_up(ending.reason)
                return
            logger.warning("%s failed: %s; the next try is in %.1f s", self.plan.label, ending.reason, pause_s)
            is_stopped = await is_done_within(self._stop_asked.wait(), pause_s)
            if is_stopped or self.unreturned:  # then its place is not there any more, and another one starts elsewhere
                self._move(ReplicaState.STOPPED)
                return

    def stop(self, drain_s: float | None) -> None:
        """Take no new request, let those that run finish for so long (None: however long it takes), then end.

        Said again it can only shorten the time.
        """
        leave_by = None if drain_s is None else asyncio.get_running_loop().time() + drain_s
        if not self._stop_asked.is_set() or self._leave_by is None or (leave_by or self._leave_by) < self._leave_by:
            self._leave_by = leave_by
            self._hurried.set()
        self._stop_asked.set()

    def sleep(self) -> None:
        """Take no new request, let those that run finish, then give the devices' memory back."""
        self._sleep_asked.set()

    def wake(self) -> None:
        """A sleeping one; its devices' memory is reserved again."""
        assert self.state is ReplicaState.ASLEEP, f"{self.plan.label} is {self.state}"
        assert not self.holds_devices
        self.holds_devices = True
        self._wake_asked.set()

    def give_up(self, reason: str) -> None:
        """Stay down; what the last worker said stands in the log."""
        self.reason = reason
        self.has_given_up = True
        logger.error("%s has given up: %s\n%s", self.plan.label, reason, "\n".join(self.last_words))
        self._on_change(self)

    @property
    def is_leaving(self) -> bool:
        """Was asked to stop or to sleep, and has not arrived there; or ends in its sleep, and does not come back."""
        is_dying_asleep = not self.holds_devices and self.state is not ReplicaState.ASLEEP
        return self._stop_asked.is_set() or self._sleep_asked.is_set() or is_dying_asleep

    @property
    def is_asleep(self) -> bool:
        """And not about to wake up."""
        return self.state is ReplicaState.ASLEEP and not self.holds_devices

    @property
    def is_falling_asleep(self) -> bool:
        return self._sleep_asked.is_set() and not self._stop_asked.is_set()

    def take_measurement(self) -> Measurement | None:
        """Of each load once; waking is no load."""
        is_news, self._is_measurement_news = self._is_measurement_news, False
        return self.measurement if is_news else None

    @property
    def held_bytes(self) -> int:
        """Of each of its devices, by reservation."""
        if self.has_given_up:
            return 0
        return self.plan.reserved_bytes if self.holds_devices else self.residual_bytes

    @property
    def last_words(self) -> list[str]:
        return list(self.worker.log.lines) if self.worker is not None else []

    # ---- leases

    @property
    def load(self) -> int:
        """Leases held, each for one request."""
        return self._num_leases

    @property
    def is_ready(self) -> bool:
        """Whether `acquire` would find a live connection; a lost one is noticed before the state says so."""
        is_here = self.state is ReplicaState.READY and not self.is_leaving
        return is_here and self.client is not None and not self.client.lost.done()

    def acquire(self) -> WorkerClient:
        """A lease on a READY replica; it does not stop by itself before the lease is released."""
        assert self.state is ReplicaState.READY, f"{self.plan.label} is {self.state}"
        assert self.client is not None
        self._num_leases += 1
        self._idle.clear()
        self.idle_since = None
        return self.client

    def release(self) -> None:
        self._num_leases -= 1
        if self._num_leases == 0:
            self._idle.set()
            self.idle_since = self._around.clock()
            self._on_idle()

    # ---- one worker's life

    def _move(self, state: ReplicaState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.plan.label}: {self.state} cannot become {state}"
        logger.info("%s: %s -> %s", self.plan.label, self.state, state)
        self.state = state
        self._on_change(self)

    async def _live(self) -> tuple[Ending, float | None]:
        """How it ended, and how long it had served if it was idle then."""
        self.began_at = self._around.clock()
        self._move(ReplicaState.STARTING)
        self.worker = None
        try:
            launched = await self._around.launcher.launch(self.plan)
        except OSError as error:
            self._move(ReplicaState.STOPPING)
            return Ending(f"the worker cannot be started: {error.strerror}"), None
        worker = self.worker = launched.worker
        self.is_warm = launched.client is not None
        ending = Ending("the supervisor was interrupted")
        is_polite = False
        try:
            await record_worker(self._around.database, self.plan, worker)
            ending = await first_of(self._stopped(), self._ended(worker), self._serve(launched), self._stalled())
            is_polite = ending.is_asked and self.state in _POLITE
            if is_polite:
                await self._drain(worker)
        except HearthError as error:
            ending = Ending(f"the worker could not be recorded: {error.message}")
        finally:
            was_serving = self.state in (ReplicaState.READY, ReplicaState.DRAINING)
            self._move(ReplicaState.STOPPING)
            num_lost = await self._bury(worker, is_polite)
        if not was_serving or num_lost or self.ready_at is None:
            return ending, None
        return ending, self._around.clock() - self.ready_at

    async def _stopped(self) -> Ending:
        await self._stop_asked.wait()
        return Ending("it was asked to stop", is_asked=True)

    async def _ended(self, worker: Worker) -> Ending:
        return Ending(await worker.wait())

    async def _serve(self, launched: Launched) -> Ending:
        """Bring it to READY, to sleep and back as asked; returns when its connection is lost."""
        client = launched.client
        try:
            client = await self._load(launched)
            while True:
                self._become_ready()
                await _or_lost(client, self._sleep_asked)
                await self._fall_asleep(client)
                await _or_lost(client, self._wake_asked)
                await self._wake_up(client)
        except LoadRefused as refusal:
            return Ending(refusal.message, is_final=refusal.code is not FailureCode.INTERNAL)
        except WorkerLost as lost:
            if str(lost) == DISCONNECTED:
                await asyncio.sleep(EXIT_STATUS_GRACE_S)
            return Ending(str(lost))

    async def _load(self, launched: Launched) -> WorkerClient:
        with self._around.quiet.loading():
            client = self.client = launched.client
            if client is None:
                client = self.client = WorkerClient(*await launched.worker.accept(), launched.worker.pid)
                await client.greet()
            self._move(ReplicaState.LOADING)
            loaded = await client.load(self.plan.load)
        assert self.began_at is not None
        self.measurement = Measurement(loaded, self._around.clock() - self.began_at, is_warm=self.is_warm)
        how = "by a spare worker" if self.is_warm else "by a new process"
        logger.info("%s: loaded in %.2f s %s", self.plan.label, self.measurement.load_s, how)
        self._is_measurement_news = True
        return client

    def _become_ready(self) -> None:
        self.began_at = None
        self.ready_at = self.idle_since = self._around.clock()
        self._move(ReplicaState.READY)

    async def _fall_asleep(self, client: WorkerClient) -> None:
        self._move(ReplicaState.DRAINING)
        await _or_lost(client, self._idle)
        self._is_handing_back = True
        self.host_bytes = await client.sleep()
        held_bytes = max([await self._held_by(client.pid, device.id) for device in self.plan.devices])
        self.residual_bytes = min(held_bytes, self.plan.reserved_bytes)
        self._is_handing_back = False
        self._sleep_asked.clear()
        self.holds_devices = False
        self._move(ReplicaState.ASLEEP)

    async def _wake_up(self, client: WorkerClient) -> None:
        self._wake_asked.clear()
        self.began_at = self._around.clock()
        self._move(ReplicaState.LOADING)
        with self._around.quiet.loading():
            await client.wake()

    async def _held_by(self, pid: int, device_id: str) -> int:
        """Of a device's memory by its sleeping worker; all that it had when the driver does not say."""
        try:
            return (await self._around.inventory.used_bytes(device_id)).get(pid, 0)
        except HearthError:
            return self.plan.reserved_bytes

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
            state = ReplicaState.LOADING if self._is_handing_back else self.state
            if reason := find_stall(state, vitals, loop.time(), self._settings):
                return Ending(reason)

    async def _drain(self, worker: Worker) -> None:
        """Until the last lease is released, its time is over, or the worker ends by itself."""
        if self.state is ReplicaState.READY:
            self._move(ReplicaState.DRAINING)
        while not self._idle.is_set():
            self._hurried.clear()
            rest_s = None
            if self._leave_by is not None:
                rest_s = self._leave_by - asyncio.get_running_loop().time()
            if not await is_done_within(first_of(self._idle.wait(), worker.wait(), self._hurried.wait()), rest_s):
                logger.warning("%s: %d requests did not finish in time", self.plan.label, self.load)
                return
            if not self._hurried.is_set():
                return

    async def _bury(self, worker: Worker, is_polite: bool) -> int:
        """End it for certain: its requests answered, its process dead, its memory back, its row removed.

        Returns how many requests it had.
        """
        num_lost = self.client.num_in_flight if self.client is not None else 0
        if is_polite and self.client is not None:
            self.client.shut_down()
            await is_done_within(worker.wait(), self._settings.stop_timeout_s)
        if self.client is not None:
            await self.client.close("the worker is being stopped")
            num_lost = max(num_lost, self.client.num_lost)
        await worker.close()
        for device in self.plan.devices:
            if not await wait_for_memory(self._around.inventory, device.id, worker.pid, MEMORY_RETURN_TIMEOUT_S):
                logger.error("%s: %s does not give back the memory of its dead worker", self.plan.label, device.id)
                self.unreturned[device.id] = worker.pid
        self.client = None
        self.measurement = None
        self._is_handing_back = False
        await strike_out_worker(self._around.database, self.plan)
        return num_lost


async def _or_lost(client: WorkerClient, event: asyncio.Event) -> None:
    """Until it is set; raises WorkerLost."""

    async def lose() -> bool:
        raise WorkerLost(await asyncio.shield(client.lost))

    await first_of(event.wait(), lose())
