"""One loop that brings what runs to what is desired: each look makes facts, plans, carries the plan out, reports.

It alone owns the ledger, the set of replicas and the claims; each `Replica` owns its worker. What to do is decided in
`planning.py`. It never writes a deployment's row: what it sees, and whom it must evict, goes to the
`DeploymentObserver`. One deployment's error never ends the loop.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from appliance.config import FleetSettings
from appliance.domain import Deployment, DeploymentState, Reservation
from appliance.orchestrator.actions import Actions
from appliance.orchestrator.claims import Claim, Claims
from appliance.orchestrator.fleet import Demand, Explanation, Fleet, FleetPlan, Priority
from appliance.orchestrator.gpus import Inventory, host_memory_bytes
from appliance.orchestrator.group import Group, Outlook
from appliance.orchestrator.group import ReplicaCounts as ReplicaCounts  # what the observer is told
from appliance.orchestrator.launching import Launcher, ProcessLauncher
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.leftovers import end_leftovers
from appliance.orchestrator.looking import Want, see_fleet
from appliance.orchestrator.measurements import Measurements
from appliance.orchestrator.memory_watch import MemoryWatch
from appliance.orchestrator.planning import plan_fleet
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.replica import Surroundings
from appliance.orchestrator.requirements import Blocked, Requirement, Requirements
from appliance.orchestrator.reserving import Holders, closed_to, holders_of
from appliance.orchestrator.roster import Roster
from appliance.orchestrator.spares import Spares
from appliance.orchestrator.views import DeviceView, HostView, view_device, view_host
from appliance.orchestrator.views import ReplicaView as ReplicaView  # what displays ask for
from appliance.orchestrator.weight_cache import WeightCache, recently_used
from appliance.store import deployments, reservations
from appliance.store.database import Database

logger = logging.getLogger(__name__)

BURIAL_S = 15.0
"""At close, beyond draining and stopping: for the memory of dead workers to come back."""
HOST_SHARE = 4
"""Unless a setting says otherwise, one part in so many of the host's memory may hold weights."""


class DeploymentObserver(Protocol):
    async def observe(
        self, deployment: Deployment, observed: ReplicaCounts, message: str, termination_message: str
    ) -> None:
        """Called when any of these, or the deployment's state, changed.

        `message` says what keeps it from serving, `termination_message` is the last words of a worker that gave up.
        """

    async def evict(self, deployment: Deployment, to_count: int, reason: str) -> None:
        """Lower what is desired of it, for somebody else needs the room; its replica is on its way out already."""


def steady_clock() -> Callable[[], float]:
    """Unix time as of now, going on evenly whatever is done to the system's clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class Supervisor:
    def __init__(
        self,
        settings: FleetSettings,
        database: Database,
        inventory: Inventory,
        models_dir: Path,
        run_dir: Path,
        *,
        launcher: Launcher | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Tests bring a launcher of workers without processes, and a clock of their own."""
        self.observer: DeploymentObserver | None = None
        """Set by the wiring, before `start`."""
        self.ledger = Ledger(inventory.devices, _host_bytes(settings))
        """Read by others for display only; likewise the spare workers and the weights in memory."""
        quiet = Quiet()
        self.spares = Spares(settings, database, inventory, self.ledger, quiet)
        self.weight_cache = WeightCache(self.ledger, quiet)
        self.num_looks = 0
        self.look_s = 0.0
        """What the last look took."""
        self._settings = settings
        self._database = database
        self._inventory = inventory
        self._models_dir = models_dir
        self._clock = clock or steady_clock()
        self._launcher = launcher or ProcessLauncher(settings, run_dir, self.spares)
        around = Surroundings(settings, database, inventory, self._launcher, quiet, self._clock)
        self._roster = Roster(self.ledger, self.weight_cache, around, self._note_change, self._note_idle)
        self._claims = Claims(self.ledger, self.notify)
        self._memory_watch = MemoryWatch(inventory, self.ledger)
        self._measurements = Measurements(database, self._clock)
        self._requirements = Requirements(settings, database, self._measurements, inventory.devices, models_dir)
        self._actions = Actions(
            settings, inventory.devices, self.ledger, self._roster, self._claims, self.spares, self.weight_cache
        )
        self._num_waiting: Counter[tuple[str, str]] = Counter()
        self._num_commits_seen = -1
        self._reservations: list[Reservation] = []
        self._holders: Holders = {}
        self._seen: Fleet | None = None
        """As the last look found it, before anything was done about it."""
        self._is_somebody_waiting = False
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    # ---- for everyone

    async def start(self) -> None:
        """End what an earlier daemon left behind, then begin to look after deployments."""
        await end_leftovers(self._database, self._inventory)
        await self._launcher.start()
        await self._measurements.read()
        self.weight_cache.prefetch(await recently_used(self._database, self._models_dir))
        self._loop = asyncio.create_task(self._look_after_fleet())

    async def close(self, drain_s: float) -> None:
        """Start nothing more; let requests finish for so long; end every worker."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        await self._roster.close(drain_s, drain_s + self._settings.stop_timeout_s + BURIAL_S)
        await self._launcher.close()
        await self.weight_cache.close()

    def notify(self) -> None:
        """Something changed in the store: look at once."""
        self._wake.set()

    @property
    def is_running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    def replicas(self, account_id: str, deployment_id: str) -> list[ReplicaView]:
        group = self._roster.groups.get((account_id, deployment_id))
        return group.views() if group is not None else []

    def all_replicas(self) -> Iterator[tuple[Deployment, ReplicaView]]:
        """Of every account; for metrics."""
        for group in self._roster:
            for view in group.views():
                yield group.deployment, view

    def all_deployments(self) -> Iterator[tuple[Deployment, list[ReplicaView]]]:
        """Of every account, those without a replica too; for displays."""
        for group in self._roster:
            yield group.deployment, group.views()

    def deployments_of(self, account_id: str) -> list[tuple[Deployment, list[ReplicaView]]]:
        """Of one account."""
        return [seen for seen in self.all_deployments() if seen[0].account_id == account_id]

    def explanation(self, account_id: str, deployment_id: str) -> Explanation | None:
        """Why a deployment waits for room, in numbers, and what could make some; None when it does not."""
        group = self._roster.groups.get((account_id, deployment_id))
        if group is None or group.explanation is None or self._seen is None:
            return None
        name = group.deployment.name
        return plan_fleet(self._seen, self._settings, explained=name).waiting.get(name, group.explanation)

    def device_views(self) -> list[DeviceView]:
        return [view_device(device, self.ledger) for device in self._inventory.devices]

    def host_view(self) -> HostView:
        return view_host(self.ledger)

    # ---- for leases and jobs

    def claim(self, owner: str, account_id: str, priority: Priority, demand: Demand, may_evict: bool) -> Claim:
        """Ask for memory under a name that nobody else has in the ledger; the caller releases it in any case."""
        return self._claims.add(owner, account_id, priority, demand, may_evict, self._clock())

    # ---- for the router

    def outlook(self, deployment: Deployment) -> Outlook:
        group = self._roster.groups.get((deployment.account_id, deployment.id))
        if group is None:
            return Outlook({}, has_failed=False, waiting_reason="", load_s=None)
        return group.outlook(self._clock())

    @contextmanager
    def waiting(self, deployment: Deployment) -> Iterator[None]:
        """Around a request's wait for a replica."""
        key = (deployment.account_id, deployment.id)
        self._num_waiting[key] += 1
        self.notify()
        try:
            yield
        finally:
            self._num_waiting[key] -= 1
            if not self._num_waiting[key]:
                del self._num_waiting[key]

    async def wait_for_change(self) -> None:
        """Until some replica changed its state or some deployment its outlook."""
        await self._changed.wait()

    def announce(self) -> None:
        """Wake everyone in `wait_for_change`: something that requests wait for may have come about."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- the loop

    async def _look_after_fleet(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._look()
            except Exception:
                logger.exception("a look after the fleet failed")
            try:
                async with asyncio.timeout(self._settings.supervisor_interval_s):
                    await self._wake.wait()
            except TimeoutError:
                pass  # it looks this often anyway

    async def _look(self) -> None:
        """Read what is desired, plan, carry it out, report."""
        began_at = asyncio.get_running_loop().time()
        await self._learn()
        await self._read_rows()
        await self._watch_memory(self._clock())
        requirements = await self._find_requirements()
        self._seen = self._see_fleet(requirements)
        plan = plan_fleet(self._seen, self._settings)
        self._take_note(plan)
        await self._actions.carry_out(plan.actions, requirements, self._evict)
        for group in list(self._roster):
            await self._report(group)
        self.look_s = asyncio.get_running_loop().time() - began_at
        self.num_looks += 1

    async def _learn(self) -> None:
        while self._roster.unlearned:
            await self._measurements.learn(*self._roster.unlearned.pop())

    async def _read_rows(self) -> None:
        """Only after a commit: nobody else writes to the store. What time alone changes is looked at each time."""
        num_commits = self._database.num_commits
        if num_commits != self._num_commits_seen:
            async with self._database.reader() as db:
                active = await deployments.list_active(db)
                self._reservations = await reservations.list_all(db)
            self._roster.see(active)
            self._requirements.forget_others({deployment.name for deployment in active})
            self._num_commits_seen = num_commits
        self._holders = holders_of(self._reservations, self._clock())
        for group in self._roster:
            group.closed_device_ids = closed_to(group.deployment.account_id, self._holders)

    async def _watch_memory(self, now: float) -> None:
        needs_room = any(group.needs_room for group in self._roster)
        if needs_room or self._claims.all() or self._memory_watch.is_due(now):
            own_pids = self._roster.pids() | self.spares.pids()
            await self._memory_watch.observe_foreign(own_pids, self._claims.leased_bytes, now)
        await self._memory_watch.recover(now)

    async def _find_requirements(self) -> dict[str, Requirement]:
        """By deployment, of all that lack a replica at the moment when this returns."""
        found: dict[str, Requirement | Blocked] = {}
        while lacking := [group for group in self._roster if group.needs_room and group.deployment.name not in found]:
            for group in lacking:
                found[group.deployment.name] = await self._requirements.find(group.deployment)
        for group in self._roster:
            requirement = found.get(group.deployment.name)
            group.blocked_reason = requirement.reason if isinstance(requirement, Blocked) else ""
            if isinstance(requirement, Requirement):
                group.footprint = requirement.footprint
        return {name: requirement for name, requirement in found.items() if isinstance(requirement, Requirement)}

    def _see_fleet(self, requirements: dict[str, Requirement]) -> Fleet:
        now = self._clock()
        wants = []
        for key, group in self._roster.groups.items():
            group.note_want(now)
            wants.append(Want(group, requirements.get(group.deployment.name), self._num_waiting.get(key, 0)))
        return see_fleet(
            now,
            self._inventory.devices,
            self.ledger,
            wants,
            self._claims.all(),
            self._actions.yielding_bytes(),
            self.weight_cache.held_bytes,
            self._holders,
        )

    def _take_note(self, plan: FleetPlan) -> None:
        """Of why some wait."""
        self._is_somebody_waiting = bool(plan.waiting)
        for claim in self._claims.all():
            claim.explanation = plan.waiting.get(claim.owner)
        has_changed = False
        for group in self._roster:
            explanation = plan.waiting.get(group.deployment.name)
            has_changed = has_changed or explanation != group.explanation
            group.explanation = explanation
        if has_changed:
            self.announce()

    async def _evict(self, deployment: Deployment, to_count: int, reason: str) -> None:
        if self.observer is not None:
            await self.observer.evict(deployment, to_count, reason)

    async def _report(self, group: Group) -> None:
        deployment = group.deployment
        if self.observer is None or (deployment.state is DeploymentState.DELETING and group.replicas):
            return
        counts, message = group.counts(), group.message()
        if group.reported == (deployment.state, counts, message):
            return
        try:
            await self.observer.observe(deployment, counts, message, group.termination_message())
        except Exception:
            logger.exception("reporting on %s failed", deployment.name)
        else:
            group.reported = (deployment.state, counts, message)

    def _note_change(self) -> None:
        self.announce()
        self.notify()

    def _note_idle(self) -> None:
        """A replica's last request has ended: somebody may have waited for that."""
        if self._is_somebody_waiting:
            self.notify()


def _host_bytes(settings: FleetSettings) -> int:
    """What may be kept in host memory for weights."""
    if settings.host_cache_bytes is not None:
        return settings.host_cache_bytes
    return host_memory_bytes() // HOST_SHARE
