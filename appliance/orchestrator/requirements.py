"""What a deployment's replicas need: its models on disk, their memory by estimate or as measured, or why it cannot be.

Asked for deployments that lack a replica only, since models are read from the store for it.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.config import FleetSettings
from appliance.domain import Deployment, Footprint, Precision
from appliance.names import parse_name
from appliance.orchestrator.assignment import Served, find_obstacle
from appliance.orchestrator.fleet import Demand
from appliance.orchestrator.footprints import footprint_key
from appliance.orchestrator.gpus import CPU, Device
from appliance.orchestrator.measurements import Measurements, software_version
from appliance.orchestrator.placement import demands_of, fixed_bytes_of
from appliance.store import models
from appliance.store.database import Database
from models.info import ModelInfo


class Requirement(NamedTuple):
    served: Served
    draft: Served | None
    demands: tuple[Demand, ...]
    footprint_key: str
    footprint: Footprint | None
    fixed_bytes: int
    """Of the demands, on each device, what is not for the KV cache."""


class Blocked(NamedTuple):
    reason: str
    """Why no replica can be started whatever is free."""


class Requirements:
    def __init__(
        self,
        settings: FleetSettings,
        database: Database,
        measurements: Measurements,
        devices: Sequence[Device],
        models_dir: Path,
    ) -> None:
        self._settings = settings
        self._database = database
        self._measurements = measurements
        self._devices = devices
        self._models_dir = models_dir
        self._version = software_version()
        self._known: dict[str, tuple[Deployment, Requirement]] = {}
        """By deployment: for which row."""
        self._served: dict[tuple[str, Precision | None], Served | None] = {}
        """By model and precision, as the store had it after `_num_commits`."""
        self._num_commits = -1

    async def find(self, deployment: Deployment) -> Requirement | Blocked:
        if obstacle := find_obstacle(deployment, self._devices):
            return Blocked(obstacle)
        served = await self._find_served(deployment.base_model, deployment.precision)
        if served is None:
            return Blocked(f"{deployment.base_model} is not there or not ready")
        draft = None
        if deployment.draft_model is not None:
            draft = await self._find_served(deployment.draft_model, None)
            if draft is None:
                return Blocked(f"{deployment.draft_model} is not there or not ready")
        if (known := self._recall(deployment, served, draft)) is not None:
            return known
        found = self._requirement(deployment, served, draft)
        self._known[deployment.name] = (deployment, found)
        return found

    def forget_others(self, names: Collection[str]) -> None:
        """Only these deployments are left."""
        self._known = {name: known for name, known in self._known.items() if name in names}

    def _recall(self, deployment: Deployment, served: Served, draft: Served | None) -> Requirement | None:
        """What was found for the same row and the same models, unless more was measured since."""
        row, known = self._known.get(deployment.name, (None, None))
        if known is None or row != deployment or (known.served, known.draft) != (served, draft):
            return None
        return known if self._measurements.get(known.footprint_key) is known.footprint else None

    async def _find_served(self, model_name: str, precision: Precision | None) -> Served | None:
        num_commits = self._database.num_commits
        if num_commits != self._num_commits:
            self._served.clear()
            self._num_commits = num_commits
        key = model_name, precision
        if key not in self._served:
            self._served[key] = await self._read_served(*key)
        return self._served[key]

    async def _read_served(self, model_name: str, precision: Precision | None) -> Served | None:
        name = parse_name(model_name, "models", "model")
        async with self._database.reader() as db:
            model = await models.get(db, name.account_id, name.resource_id)
        checkpoint = None if model is None else model.checkpoint(precision)
        return None if checkpoint is None else Served(self._models_dir / checkpoint.directory, checkpoint.info)

    def _requirement(self, deployment: Deployment, served: Served, draft: Served | None) -> Requirement:
        draft_info = None if draft is None else draft.info
        assert draft_info is None or isinstance(draft_info, ModelInfo), "a draft model is one for language"
        suitable = (
            device for device in self._devices if deployment.accelerator_type in (None, device.accelerator_type)
        )
        device = next(suitable)
        key = footprint_key(deployment, served.info, self._settings, device, draft=draft_info, version=self._version)
        footprint = self._measurements.get(key)
        # What a process holds of the host says nothing of what it would hold of the device that is simulated.
        is_measured = device.is_cuda or device.accelerator_type == CPU
        known = footprint if is_measured else None
        demands = demands_of(deployment, served.info, self._settings, self._devices, draft=draft_info, footprint=known)
        fixed = fixed_bytes_of(
            deployment, served.info, self._settings, self._devices, draft=draft_info, footprint=known
        )
        return Requirement(served, draft, tuple(demands), key, footprint, fixed)
