"""Keeps the LoRA addons that each ready replica has loaded equal to those that are deployed on its deployment.

Loads come after READY, so that the base model never waits for an addon; a worker that was replaced loads all of them
again. Writes no rows: what became of an addon goes to the `AdapterObserver`. Never starts or stops a replica.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from appliance.config import FleetSettings
from appliance.domain import DeployedModel, DeployedModelState, Deployment, ModelKind
from appliance.names import parse_name
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.supervisor import Supervisor
from appliance.orchestrator.worker_client import AdapterRefused, WorkerClient, WorkerLost
from appliance.store import deployed_models, deployments, models
from appliance.store.database import Database
from runtime.message import FailureCode
from runtime.protocol import LoadAdapter

logger = logging.getLogger(__name__)


class AdapterObserver(Protocol):
    async def observe(self, deployed: DeployedModel, is_loaded: bool, has_failed: bool, message: str) -> None:
        """`is_loaded`: requests are answered, or will be by the next replica; `message` says what is in the way."""

    async def forget(self, deployed: DeployedModel) -> None:
        """One in UNDEPLOYING is loaded nowhere any more."""


class Addon(NamedTuple):
    deployed: DeployedModel
    load: LoadAdapter
    """Its name among workers is the deployed model's, which is never used twice."""

    @property
    def name(self) -> str:
        return self.load.adapter


class Site(NamedTuple):
    """A deployment and the addons that are, or were until now, deployed on it."""

    deployment: Deployment
    addons: list[Addon]


class Failure(NamedTuple):
    message: str
    num_tries: int
    retry_at: float
    """Loop time; infinite when another try would end the same way."""


class Holding(msgspec.Struct):
    """What one worker has."""

    replica: Replica
    loaded: set[str] = msgspec.field(default_factory=set)
    loading: set[str] = msgspec.field(default_factory=set)
    failures: dict[str, Failure] = msgspec.field(default_factory=dict)


class Adapters:
    def __init__(
        self,
        settings: FleetSettings,
        database: Database,
        models_dir: Path,
        supervisor: Supervisor,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when an addon became ready, or cannot: requests may wait for it."""
        self.observer: AdapterObserver | None = None
        """Set by the wiring, before `start`."""
        self._settings = settings
        self._database = database
        self._models_dir = models_dir
        self._supervisor = supervisor
        self._on_change = on_change
        self._holdings: dict[WorkerClient, Holding] = {}
        """A worker that sleeps keeps its own."""
        self._loads: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._loop = asyncio.create_task(self._look_after_adapters())

    async def close(self) -> None:
        tasks = [*self._loads, *([self._loop] if self._loop is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def notify(self) -> None:
        """Something was deployed or undeployed: look at once."""
        self._wake.set()

    # ---- for the router

    def has_adapter(self, replica: Replica, adapter: str) -> bool:
        """Whether its worker answers requests for it now; every worker has the base model, named by nothing."""
        if not adapter:
            return True
        holding = self._holding_of(replica)
        return holding is not None and adapter in holding.loaded

    def refusal(self, replicas: Iterable[Replica], adapter: str) -> str:
        """Why none of these ready replicas will ever have it; empty while one has or may."""
        message = ""
        for replica in replicas:
            holding = self._holding_of(replica)
            failure = holding.failures.get(adapter) if holding is not None else None
            if failure is None or failure.retry_at < math.inf:
                return ""
            message = failure.message
        return message

    def _holding_of(self, replica: Replica) -> Holding | None:
        return None if replica.client is None else self._holdings.get(replica.client)

    # ---- the loop

    async def _look_after_adapters(self) -> None:
        while True:
            self._wake.clear()
            changed = asyncio.ensure_future(self._supervisor.wait_for_change())
            is_settled = False
            try:
                is_settled = await self._look()
            except Exception:
                logger.exception("a look after the adapters failed")
            woken = asyncio.ensure_future(self._wake.wait())
            try:
                timeout_s = None if is_settled else self._settings.supervisor_interval_s
                await asyncio.wait({woken, changed}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
                changed.cancel()

    async def _look(self) -> bool:
        """Load what is missing, unload what is too much, report; whether all is as it should be."""
        sites = await self._read_sites()
        self._holdings = {client: held for client, held in self._holdings.items() if not client.lost.done()}
        wanted = {addon.name for site in sites for addon in site.addons if _is_wanted(addon)}
        for client, holding in self._holdings.items():
            if holding.replica.is_ready:
                self._unload_others(client, holding, wanted)
        for site in sites:
            ready = list(self._supervisor.outlook(site.deployment).ready.values())
            for replica in ready:
                self._load_missing(replica, [addon for addon in site.addons if _is_wanted(addon)])
            for addon in site.addons:
                await self._report(site.deployment, addon, ready)
        return all(_is_settled(addon.deployed) for site in sites for addon in site.addons)

    async def _read_sites(self) -> list[Site]:
        sites: dict[str, Site] = {}
        async with self._database.reader() as db:
            addons = [await models.list_of_kind(db, kind) for kind in ModelKind if kind.is_addon]
            for model in chain.from_iterable(addons):
                if model.addon_info is None:
                    continue
                for deployed in await deployed_models.list_everywhere_of_model(db, model.name):
                    if deployed.deployment not in sites:
                        name = parse_name(deployed.deployment, "deployments", "deployment")
                        deployment = await deployments.get(db, name.account_id, name.resource_id)
                        if deployment is None:
                            continue
                        sites[deployed.deployment] = Site(deployment, [])
                    load = LoadAdapter(
                        adapter=deployed.name,
                        directory=str(self._models_dir / model.directory),
                        file_sha256=model.addon_info.file_sha256,
                    )
                    sites[deployed.deployment].addons.append(Addon(deployed, load))
        return list(sites.values())

    def _unload_others(self, client: WorkerClient, holding: Holding, wanted: set[str]) -> None:
        for name in holding.loaded - wanted:
            logger.info("%s: unloading %s", holding.replica.plan.label, name)
            holding.loaded.discard(name)
            client.unload_adapter(name)
        for name in holding.failures.keys() - wanted:
            del holding.failures[name]

    def _load_missing(self, replica: Replica, wanted: list[Addon]) -> None:
        if replica.client is None:
            return
        holding = self._holdings.setdefault(replica.client, Holding(replica))
        now = asyncio.get_running_loop().time()
        for addon in wanted:
            failure = holding.failures.get(addon.name)
            is_resting = failure is not None and now < failure.retry_at
            if addon.name in holding.loaded or addon.name in holding.loading or is_resting:
                continue
            holding.loading.add(addon.name)
            task = asyncio.create_task(self._load(replica.client, holding, addon))
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)

    async def _load(self, client: WorkerClient, holding: Holding, addon: Addon) -> None:
        label = holding.replica.plan.label
        try:
            await client.load_adapter(addon.load)
        except AdapterRefused as refused:
            logger.warning("%s: %s could not be loaded: %s", label, addon.name, refused.message)
            holding.failures[addon.name] = self._failure(refused, holding.failures.get(addon.name))
        except WorkerLost:
            pass  # the next worker will load it
        else:
            logger.info("%s: %s is loaded", label, addon.name)
            holding.loaded.add(addon.name)
            holding.failures.pop(addon.name, None)
        finally:
            holding.loading.discard(addon.name)
            self._on_change()
            self.notify()

    def _failure(self, refused: AdapterRefused, last: Failure | None) -> Failure:
        num_tries = 1 if last is None else last.num_tries + 1
        if refused.code is FailureCode.INVALID:
            return Failure(refused.message, num_tries, math.inf)
        pause_s = min(self._settings.backoff_max_s, self._settings.backoff_first_s * 2 ** (num_tries - 1))
        return Failure(refused.message, num_tries, asyncio.get_running_loop().time() + pause_s)

    async def _report(self, deployment: Deployment, addon: Addon, ready: list[Replica]) -> None:
        if self.observer is None:
            return
        deployed = addon.deployed
        if not _is_wanted(addon):
            await self.observer.forget(deployed)
            return
        holdings = [self._holdings[replica.client] for replica in ready if replica.client in self._holdings]
        failures = {each.failures[addon.name].message: None for each in holdings if addon.name in each.failures}
        # At zero replicas there is nothing to load into; the next replica loads it before it is asked.
        is_loaded = any(addon.name in each.loaded for each in holdings) or not (
            ready or deployment.desired_replica_count
        )
        message = "; ".join(failures) or ("" if is_loaded else self._waiting_message(deployment, ready))
        has_failed = bool(self.refusal(ready, addon.name))
        is_news = is_loaded and deployed.state is DeployedModelState.DEPLOYING
        if is_news or (has_failed, message) != (deployed.has_failed, deployed.status_message):
            await self.observer.observe(deployed, is_loaded, has_failed, message)

    def _waiting_message(self, deployment: Deployment, ready: list[Replica]) -> str:
        if ready:
            return ""
        return self._supervisor.outlook(deployment).waiting_reason


def _is_settled(deployed: DeployedModel) -> bool:
    return deployed.state is DeployedModelState.DEPLOYED and not deployed.status_message


def _is_wanted(addon: Addon) -> bool:
    return addon.deployed.state in (DeployedModelState.DEPLOYING, DeployedModelState.DEPLOYED)
