"""A supervisor and a router over fake devices and real fake workers, as the daemon would wire them."""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from appliance.config import FleetSettings
from appliance.domain import Deployment, ReplicaState
from appliance.orchestrator.adapters import Adapters
from appliance.orchestrator.router import Router
from appliance.orchestrator.supervisor import ReplicaCounts, ReplicaView, Supervisor
from appliance.store import deployments, models
from appliance.store.database import Database
from runtime.protocol import Submit
from runtime.submission import TextPrompt
from tests.appliance.orchestrator.samples import sample_deployment, sample_model, sample_settings
from tests.fakes.fake_gpus import FakeInventory
from tests.fakes.fake_worker import FakeModel
from tests.waiting import until


class RecordingObserver:
    """Notes what it is told; as the services would, it lowers what is desired of the evicted."""

    def __init__(self, database: Database) -> None:
        self.seen: dict[str, list[tuple[ReplicaCounts, str]]] = {}
        """By deployment id, in order."""
        self.last_words: dict[str, str] = {}
        """The newest termination message, by deployment id."""
        self.evicted: list[tuple[str, int, str]] = []
        self._database = database

    async def observe(
        self, deployment: Deployment, observed: ReplicaCounts, message: str, termination_message: str
    ) -> None:
        self.seen.setdefault(deployment.id, []).append((observed, message))
        self.last_words[deployment.id] = termination_message

    async def evict(self, deployment: Deployment, to_count: int, reason: str) -> None:
        self.evicted.append((deployment.id, to_count, reason))
        async with self._database.transaction() as tx:
            current = await deployments.get(tx.connection, deployment.account_id, deployment.id)
            if current is not None:
                await deployments.update(tx, msgspec.structs.replace(current, desired_replica_count=to_count))

    def counts(self, deployment_id: str) -> ReplicaCounts | None:
        return self.seen[deployment_id][-1][0] if deployment_id in self.seen else None

    def message(self, deployment_id: str) -> str:
        return self.seen[deployment_id][-1][1] if deployment_id in self.seen else ""


class World:
    def __init__(self, tmp_path: Path, database: Database, inventory: FakeInventory, settings: FleetSettings) -> None:
        self.database = database
        self.inventory = inventory
        self.settings = settings
        self.models_dir = tmp_path / "models"
        self.run_dir = tmp_path / "run"
        self.observer = RecordingObserver(database)
        self.supervisor = Supervisor(settings, database, inventory, self.models_dir, self.run_dir)
        self.supervisor.observer = self.observer
        self.adapters = Adapters(settings, database, self.models_dir, self.supervisor, self.supervisor.announce)
        """Not started."""
        self.router = Router(self.supervisor, settings, self.adapters)

    async def deploy(
        self, deployment_id: str, *, gigabytes: float = 1.0, behaviour: FakeModel | None = None, **changes: Any
    ) -> Deployment:
        """A deployment of a model of its own."""
        model_dir = self.models_dir / deployment_id
        model_dir.mkdir(parents=True)
        (behaviour or FakeModel()).write(model_dir)
        named = {"id": deployment_id, "base_model": f"accounts/acme/models/{deployment_id}"}
        deployment = sample_deployment(**(named | changes))
        async with self.database.transaction() as tx:
            await models.insert(tx, sample_model(deployment_id, gigabytes))
            await deployments.insert(tx, deployment)
        self.supervisor.notify()
        return deployment

    async def change(self, deployment: Deployment, **changes: Any) -> Deployment:
        changed = msgspec.structs.replace(deployment, **changes)
        async with self.database.transaction() as tx:
            await deployments.update(tx, changed)
        self.supervisor.notify()
        return changed

    def views(self, deployment_id: str) -> list[ReplicaView]:
        return self.supervisor.replicas("acme", deployment_id)

    async def until_ready(self, deployment_id: str, num_replicas: int = 1) -> None:
        await until(lambda: [view.state for view in self.views(deployment_id)] == num_replicas * [ReplicaState.READY])

    async def ask(self, deployment: Deployment, text: str, affinity_key: str | None = None, adapter: str = "") -> str:
        request = Submit(request_id=os.urandom(8).hex(), prompt=TextPrompt(text=text), adapter=adapter)
        async with (
            self.router.lease(deployment, affinity_key, wait_s=60.0, adapter=adapter) as client,
            aclosing(client.generate(request)) as outputs,
        ):
            return "".join([delta.text async for deltas in outputs for delta in deltas])


@asynccontextmanager
async def running_world(
    tmp_path: Path, database: Database, inventory: FakeInventory | None = None, **changes: Any
) -> AsyncIterator[World]:
    world = World(tmp_path, database, inventory or FakeInventory(), sample_settings(**changes))
    await world.supervisor.start()
    try:
        yield world
    finally:
        await world.supervisor.close(drain_s=0.0)
