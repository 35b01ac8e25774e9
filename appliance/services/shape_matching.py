"""What each shape would give a model on this box: the devices it would take, and the memory of each.

The box is taken as empty: whether there is room at this moment is the supervisor's to find out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.config import Config
from appliance.domain import Deployment, Model, ModelState, Precision, Principal
from appliance.names import ResourceName
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.placement import context_length_of, demands_of, dtype_of, keeps_fp8, place_best
from appliance.services.access import require_account
from appliance.services.deployment_models import find_named_model, present_model
from appliance.services.deployment_shapes import SHAPES, Shape
from appliance.services.deployment_spec import DeploymentSpec, new_deployment
from appliance.store.database import Database
from models.info import AnyServedInfo, ModelInfo

_PRECISIONS = {"bfloat16": Precision.BF16, "float16": Precision.FP16, "float32": Precision.FP32}


class ShapeFit(NamedTuple):
    """One shape with the numbers that it would give a model."""

    shape: Shape
    model: Model
    accelerator_type: str
    accelerator_count: int
    num_bytes: int
    """On each device."""
    precision: Precision
    max_context_length: int
    enable_addons: bool


class DeploymentShapes:
    def __init__(self, database: Database, config: Config, devices: Sequence[Device]) -> None:
        self._database = database
        self._config = config
        self._devices = devices

    async def match(
        self, principal: Principal, account_id: str, model_name: str, param: str, *, enable_addons: bool
    ) -> list[ShapeFit]:
        """Those that fit; an addon is matched by its base model. Raises `not_found` for a model out of sight."""
        settings = self._config.identity
        require_account(principal, account_id, settings)
        async with self._database.reader() as db:
            model = await find_named_model(db, principal, model_name, param, settings)
            if model.base_model is not None:
                model = await present_model(db, model.base_model, param)
        fits = [fit(shape, model, self._config, self._devices, enable_addons=enable_addons) for shape in SHAPES]
        return [found for found in fits if found is not None]


def fit(
    shape: Shape, model: Model, config: Config, devices: Sequence[Device], *, enable_addons: bool
) -> ShapeFit | None:
    """None: the model is not ready, or too large for the box."""
    if model.served_info is None or model.state is not ModelState.READY:
        return None
    deployment = new_deployment(
        ResourceName(config.identity.library_account_id, "deployments", shape.id),
        DeploymentSpec(base_model=model.name, shape_preset=shape.preset, enable_addons=enable_addons),
        model,
        created_by="",
        now=0.0,
    )
    demands = demands_of(deployment, model.served_info, config.fleet, devices)
    place = place_best(devices, {device.id: device.memory_bytes for device in devices}, demands)
    if place is None:
        return None
    taken = next(device for device in devices if device.id in place.device_ids)
    return ShapeFit(
        shape=shape,
        model=model,
        accelerator_type=taken.accelerator_type,
        accelerator_count=len(place.device_ids),
        num_bytes=place.num_bytes,
        precision=_precision_of(deployment, model.served_info, taken),
        max_context_length=context_length_of(deployment, model.served_info),
        enable_addons=enable_addons,
    )


def _precision_of(deployment: Deployment, info: AnyServedInfo, device: Device) -> Precision:
    if isinstance(info, ModelInfo) and info.fp8 is not None and keeps_fp8(deployment, info, [device]):
        return Precision.FP8
    return _PRECISIONS[dtype_of(deployment, info, device.is_cuda)]
