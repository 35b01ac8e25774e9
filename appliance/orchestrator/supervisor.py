"""One loop that brings the replicas that run to the replicas that are desired: places, starts, stops, tries again.

It alone owns the ledger and the set of replicas; each `Replica` owns its worker. It never writes a deployment's row:
what it sees goes to the `DeploymentObserver`. One deployment's error never ends the loop.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from appliance.config import FleetSettings
from appliance.domain import Deployment, DeploymentState, ModelState, ReplicaRow, ReplicaState
from appliance.errors import HearthError
from appliance.names import parse_name
from appliance.orchestrator.gpus import Inventory, wait_for_memory
from appliance.orchestrator.group import Group, Outlook
from appliance.orchestrator.group import ReplicaCounts as ReplicaCounts  # what the observer is told
from appliance.orchestrator.group import ReplicaView as ReplicaView  # what displays ask for
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.placement import (
    Placement,
    Unplaceable,
    context_length_of,
    demands_of,
    dtype_of,
    place_best,
)
from appliance.orchestrator.process import ProcessIdentity, end_leftover, exists, prepare_run_dir
from appliance.orchestrator.replica import Replica, ReplicaPlan
from appliance.store import deployments, models, replicas
from appliance.store.database import Database
from models.info import ModelInfo
from runtime.protocol import DraftModel, LlmSettings, Load, Speculation

logger = logging.getLogger(__name__)

BURIAL_S = 15.0
"""At close, beyond draining and stopping: for the memory of dead workers to come back."""
LOAD_TIME_WEIGHT = 0.3
"""Of the newest load in the average that clients are told."""


class DeploymentObserver(Protocol):
    async def observe(self, deployment: Deployment, observed: ReplicaCounts, message: str) -> None:
        """Called when counts, message or the deployment's state changed; `message` says what keeps it from serving."""


class Served(NamedTuple):
    """A model that a worker may load."""

    directory: Path
    info: ModelInfo


class Supervisor:
    def __init__(
        self, settings: FleetSettings, database: Database, inventory: Inventory, models_dir: Path, run_dir: Path
    ) -> None:
        self.observer: DeploymentObserver | None = None
        """Set by the wiring, before `start`."""
        self.ledger = Ledger(inventory.devices)
        """Read by others for display only."""
        self._settings = settings
        self._database = database
        self._inventory = inventory
        self._models_dir = models_dir
        self._run_dir = run_dir
        self._groups: dict[tuple[str, str], Group] = {}
        self._running: dict[Replica, asyncio.Task[None]] = {}
        self._load_s: dict[str, float] = {}
        """By base model."""
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    # ---- for everyone

    async def start(self) -> None:
        """End what an earlier daemon left behind, then begin to look after deployments."""
        self._run_dir = await asyncio.to_thread(prepare_run_dir, self._run_dir)
        await self._end_leftovers()
        self._loop = asyncio.create_task(self._look_after_deployments())

    async def close(self, drain_s: float) -> None:
        """Start nothing more; let requests finish for so long; end every worker."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        for replica in self._running:
            replica.stop(drain_s)
        tasks = list(self._running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=drain_s + self._settings.stop_timeout_s + BURIAL_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def notify(self) -> None:
        """Something changed in the store: look at once."""
        self._wake.set()

    @property
    def is_running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    def replicas(self, account_id: str, deployment_id: str) -> list[ReplicaView]:
        group = self._groups.get((account_id, deployment_id))
        return group.views() if group is not None else []

    def all_replicas(self) -> Iterator[tuple[Deployment, ReplicaView]]:
        """Of every account; for metrics."""
        for group in self._groups.values():
            for view in group.views():
                yield group.deployment, view

    # ---- for the router

    def outlook(self, deployment: Deployment) -> Outlook:
        load_s = self._load_s.get(deployment.base_model)
        group = self._groups.get((deployment.account_id, deployment.id))
        if group is None:
            return Outlook({}, has_failed=False, waiting_reason="", load_s=load_s)
        return group.outlook(load_s)

    async def wait_for_change(self) -> None:
        """Until some replica changed its state or some deployment its outlook."""
        await self._changed.wait()

    # ---- the loop

    async def _look_after_deployments(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._bring_about()
            except Exception:
                logger.exception("a look after the deployments failed")
            try:
                async with asyncio.timeout(self._settings.supervisor_interval_s):
                    await self._wake.wait()
            except TimeoutError:
                pass  # it looks this often anyway

    async def _bring_about(self) -> None:
        """One look: read what is desired, stop what is too much, start what is missing, report."""
        async with self._database.reader() as db:
            self._see(await deployments.list_active(db))
        for group in self._groups.values():
            self._stop_excess(group)
        if any(group.missing for group in self._groups.values()):
            await self._observe_foreign_memory()
        # The oldest first: a younger deployment takes only what an older one cannot use.
        for group in sorted(self._groups.values(), key=lambda group: group.deployment.created_at):
            await self._look_after(group)

    def _see(self, active: list[Deployment]) -> None:
        rows = {(deployment.account_id, deployment.id): deployment for deployment in active}
        for key, group in list(self._groups.items()):
            if key in rows:
                group.see(rows[key])
            elif group.replicas:
                group.lose_row()
            else:
                del self._groups[key]
        for key in rows.keys() - self._groups.keys():
            self._groups[key] = Group(rows[key])

    async def _look_after(self, group: Group) -> None:
        try:
            await self._start_missing(group)
            await self._report(group)
        except Exception:
            logger.exception("looking after %s failed", group.deployment.name)

    def _stop_excess(self, group: Group) -> None:
        for index, replica in list(group.replicas.items()):
            if index < group.desired:
                continue
            if replica.has_given_up:
                del group.replicas[index]
            else:
                replica.stop(self._settings.replica_drain_s)

    async def _start_missing(self, group: Group) -> None:
        waiting_reason = await self._place_missing(group)
        if waiting_reason != group.waiting_reason:
            group.waiting_reason = waiting_reason
            self._announce()

    async def _place_missing(self, group: Group) -> str:
        """Start what has a place; returns why the others wait."""
        if not group.missing:
            return ""
        deployment = group.deployment
        served = await self._find_served(deployment.base_model)
        if served is None:
            return f"{deployment.base_model} is not there or not ready"
        draft = None
        if deployment.draft_model is not None:
            draft = await self._find_served(deployment.draft_model)
            if draft is None:
                return f"{deployment.draft_model} is not there or not ready"
        draft_info = None if draft is None else draft.info
        demands = demands_of(deployment, served.info, self._settings, self._is_cuda, draft_info)
        for index in group.missing:
            result = place_best(self._inventory.devices, self.ledger.free(), demands)
            if isinstance(result, Unplaceable):
                return result.reason
            self._start(group, self._plan(deployment, served, draft, index, result))
        return ""

    def _start(self, group: Group, plan: ReplicaPlan) -> None:
        self.ledger.reserve(plan.label, [plan.device.id], plan.reserved_bytes)
        replica = Replica(
            plan,
            settings=self._settings,
            database=self._database,
            inventory=self._inventory,
            run_dir=self._run_dir,
            on_change=self._note_change,
        )
        group.replicas[plan.index] = replica
        self._running[replica] = asyncio.create_task(self._keep(group, replica))

    async def _keep(self, group: Group, replica: Replica) -> None:
        """From its reservation to the release of it, which comes after its last worker is gone."""
        try:
            await replica.run()
        except Exception:
            logger.exception("%s failed", replica.plan.label)
            replica.give_up("an internal error; the log has it")
        finally:
            self.ledger.release(replica.plan.label)
            del self._running[replica]
            if not replica.has_given_up:
                group.replicas.pop(replica.plan.index, None)
            self._announce()
            self.notify()

    async def _report(self, group: Group) -> None:
        deployment = group.deployment
        if self.observer is None or (deployment.state is DeploymentState.DELETING and group.replicas):
            return
        counts, message = group.counts(), group.message()
        if group.reported != (deployment.state, counts, message):
            await self.observer.observe(deployment, counts, message)
            group.reported = (deployment.state, counts, message)

    def _note_change(self, replica: Replica) -> None:
        if replica.state is ReplicaState.READY and replica.load_s is not None:
            self._learn_load_time(replica)
        self._announce()
        self.notify()

    def _announce(self) -> None:
        """Wake everyone in `wait_for_change`."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- facts

    @property
    def _is_cuda(self) -> bool:
        return any(device.is_cuda for device in self._inventory.devices)

    async def _find_served(self, model_name: str) -> Served | None:
        name = parse_name(model_name, "models", "model")
        async with self._database.reader() as db:
            model = await models.get(db, name.account_id, name.resource_id)
        if model is None or model.info is None or model.state is not ModelState.READY:
            return None
        return Served(self._models_dir / model.directory, model.info)

    def _plan(
        self, deployment: Deployment, served: Served, draft: Served | None, index: int, placement: Placement
    ) -> ReplicaPlan:
        info = served.info
        devices = self._inventory.devices
        device = next(device for device in devices if device.id in placement.device_ids)
        settings = LlmSettings(
            device="cuda:0" if device.is_cuda else "cpu",  # a worker sees no device but its own
            dtype=dtype_of(deployment, info, device.is_cuda),
            memory_budget_bytes=placement.num_bytes,
            max_context_length=context_length_of(deployment, info),
            max_num_requests=self._settings.max_num_requests,
            max_batch_tokens=self._settings.max_batch_tokens,
            block_size=self._settings.block_size,
            enable_prefix_cache=self._settings.enable_prefix_cache,
            num_threads=max(1, len(os.sched_getaffinity(0)) // len(devices)),
            speculation=_speculation(deployment, draft),
        )
        return ReplicaPlan(
            account_id=deployment.account_id,
            deployment_id=deployment.id,
            deployment_name=deployment.name,
            index=index,
            device=device,
            reserved_bytes=placement.num_bytes,
            load=Load(
                kind="llm",
                model_dir=str(served.directory),
                file_sha256=info.file_sha256,
                settings=settings,
            ),
        )

    async def _observe_foreign_memory(self) -> None:
        """Tell the ledger what others hold. A device that cannot be asked counts as full."""
        own_pids = {replica.worker.pid for replica in self._running if replica.worker is not None}
        for device in self._inventory.devices:
            try:
                used_bytes = await self._inventory.used_bytes(device.id)
            except HearthError as error:
                logger.warning("%s takes no new replica: %s", device.id, error.message)
                self.ledger.observe_foreign(device.id, device.memory_bytes)
            else:
                # In a container NVML may give pids of the host, ours among them under names that we cannot know.
                foreign = sum(held for pid, held in used_bytes.items() if pid not in own_pids and exists(pid))
                self.ledger.observe_foreign(device.id, foreign)

    def _learn_load_time(self, replica: Replica) -> None:
        assert replica.load_s is not None
        group = self._groups.get((replica.plan.account_id, replica.plan.deployment_id))
        if group is not None:
            model = group.deployment.base_model
            known_s = self._load_s.get(model, replica.load_s)
            self._load_s[model] = known_s + LOAD_TIME_WEIGHT * (replica.load_s - known_s)

    # ---- after a crash of the daemon

    async def _end_leftovers(self) -> None:
        """Workers that outlived an earlier daemon die before their memory is promised to anyone."""
        async with self._database.reader() as db:
            rows = await replicas.list_all(db)
        for row in rows:
            await self._end_leftover(row)

    async def _end_leftover(self, row: ReplicaRow) -> None:
        if not await end_leftover(ProcessIdentity(row.pid, row.pid_started_ticks, row.boot_id)):
            # Its row stays for the next start; the memory that it holds counts as that of others.
            logger.error("worker %d, which an earlier daemon left behind, cannot be ended", row.pid)
            return
        for device in self._inventory.devices:
            if device.id in row.device_ids:
                await wait_for_memory(self._inventory, device.id, row.pid)
        async with self._database.transaction() as tx:
            await replicas.delete(tx, row.account_id, row.deployment_id, row.index)


def _speculation(deployment: Deployment, draft: Served | None) -> Speculation:
    draft_model = None
    if draft is not None:
        draft_model = DraftModel(model_dir=str(draft.directory), file_sha256=draft.info.file_sha256)
    return Speculation(
        num_draft_tokens=deployment.draft_token_count or 0,
        ngram_length=deployment.ngram_speculation_length or 0,
        draft_model=draft_model,
    )
