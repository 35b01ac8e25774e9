"""The service of deployments, what it told the supervisor, and what it is told of requests in flight."""

from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, FleetSettings, IdentitySettings
from appliance.domain import DeployedModel, Deployment, Principal
from appliance.errors import HearthError
from appliance.orchestrator.group import ReplicaCounts
from appliance.services.deployments import Box, Deployments, DeploymentSpec
from appliance.store import deployed_models
from appliance.store.database import Database
from tests.appliance.services.samples import ADA
from tests.fakes.fake_gpus import fake_device

DEVICES = [fake_device(0, 80, "NVIDIA_H100_80GB"), fake_device(1, 80, "NVIDIA_H100_80GB")]
PURGE_S = 600.0


def config(identity: IdentitySettings) -> Config:
    return Config(
        data_dir=Path("nowhere"),
        identity=identity,
        fleet=FleetSettings(replica_count_max=8, scaling_decisions_kept=20),
        deployment_purge_s=PURGE_S,
    )


class Service:
    def __init__(self, database: Database, settings: IdentitySettings) -> None:
        self.num_notified = 0
        self.num_in_flight = 0
        box = Box(DEVICES, self._note, lambda account_id, deployment_id: self.num_in_flight)
        self.deployments = Deployments(database, config(settings), box)

    def _note(self) -> None:
        self.num_notified += 1

    async def create(self, deployment_id: str | None = "fast", who: Principal = ADA, **spec: Any) -> Deployment:
        return await self.deployments.create(
            who,
            who.account_id,
            deployment_id,
            DeploymentSpec(**({"base_model": "poet"} | spec)),
            disable_auto_deploy=False,
            validate_only=False,
        )

    async def update(self, who: Principal = ADA, deployment_id: str = "fast", **fields: Any) -> Deployment:
        asked = DeploymentSpec(**({"base_model": "poet"} | fields))
        return await self.deployments.update(who, "acme", deployment_id, asked, fields.keys())

    async def observe(self, deployment_id: str, *counts: int, message: str = "", last_words: str = "") -> Deployment:
        """As the supervisor does it: with the row as its last look showed it."""
        seen = await self.deployments.get(ADA, "acme", deployment_id)
        await self.deployments.observe(seen, ReplicaCounts(*counts), message, last_words)
        (found,) = [
            each for each in await self.deployments.list(ADA, "acme", show_deleted=True) if each.id == deployment_id
        ]
        return found


async def refusal(attempt: object) -> HearthError:
    with pytest.raises(HearthError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value


async def deployed_on(database: Database, where: Deployment) -> list[DeployedModel]:
    async with database.reader() as db:
        return await deployed_models.list_of_deployment(db, where.name)
