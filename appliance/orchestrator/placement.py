"""What a replica needs and where it goes: pure functions of devices, free bytes and a deployment.

No clock, no log, no await. A refusal says why in numbers, for it becomes the deployment's status.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from appliance.config import GIB, FleetSettings
from appliance.domain import Deployment, Precision
from appliance.orchestrator.gpus import Device
from models.info import ModelInfo
from models.sizing import replica_bytes

Dtype = Literal["bfloat16", "float16", "float32"]

_DTYPES: dict[Precision, Dtype] = {
    Precision.BF16: "bfloat16",
    Precision.FP16: "float16",
    Precision.FP32: "float32",
}


class Demand(NamedTuple):
    """What one replica asks for."""

    num_bytes: int
    """On each of its devices."""
    accelerator_type: str | None
    accelerator_count: int


class Placement(NamedTuple):
    device_ids: list[str]
    num_bytes: int
    """To be reserved on each device."""


class Unplaceable(NamedTuple):
    reason: str


def place(devices: Sequence[Device], free_bytes: Mapping[str, int], demand: Demand) -> Placement | Unplaceable:
    """Fill the device that fits tightest; of equals, the first."""
    if demand.accelerator_count > 1:
        return Unplaceable(
            f"asks for {demand.accelerator_count} accelerators per replica; one is what this version can use"
        )
    suitable = [device for device in devices if demand.accelerator_type in (None, device.accelerator_type)]
    if not suitable:
        present = ", ".join(sorted({device.accelerator_type for device in devices})) or "nothing"
        return Unplaceable(f"needs one {demand.accelerator_type}; this box has {present}")
    roomy = [device for device in suitable if free_bytes[device.id] >= demand.num_bytes]
    if not roomy:
        return Unplaceable(_explain(suitable, free_bytes, demand))
    tightest = min(roomy, key=lambda device: (free_bytes[device.id], device.index))
    return Placement([tightest.id], demand.num_bytes)


def place_best(
    devices: Sequence[Device], free_bytes: Mapping[str, int], demands: Sequence[Demand]
) -> Placement | Unplaceable:
    """The first of the demands, best first, that has a place; the refusal is that of the last, the most modest."""
    results = [place(devices, free_bytes, demand) for demand in demands]
    return next((result for result in results if isinstance(result, Placement)), results[-1])


def demands_of(
    deployment: Deployment, info: ModelInfo, settings: FleetSettings, is_cuda: bool, draft: ModelInfo | None = None
) -> list[Demand]:
    """What a replica would like, then what it can live with: KV for half as many requests each time, down to one."""
    demands = []
    concurrency = settings.kv_cache_concurrency
    while concurrency >= 1:
        num_bytes = replica_bytes(
            info,
            dtype_of(deployment, info, is_cuda),
            max_context_length=context_length_of(deployment, info),
            concurrency=concurrency,
            max_batch_tokens=settings.max_batch_tokens,
            max_num_requests=settings.max_num_requests,
            is_cuda=is_cuda,
            draft=draft,
        )
        demands.append(Demand(num_bytes, deployment.accelerator_type, deployment.accelerator_count))
        concurrency //= 2
    return demands


def dtype_of(deployment: Deployment, info: ModelInfo, is_cuda: bool) -> Dtype:
    """As the deployment says, else as the checkpoint is stored; on a CPU half precision becomes float32."""
    if deployment.precision is not None:
        dtype = _DTYPES[deployment.precision]
    else:
        dtype = next(dtype for dtype in _DTYPES.values() if dtype == info.dtype)
    # CPU kernels for float16 are missing or slow; float32 holds every float16 value, bfloat16 would round them.
    return "float32" if dtype == "float16" and not is_cuda else dtype


def context_length_of(deployment: Deployment, info: ModelInfo) -> int:
    if deployment.max_context_length is None:
        return info.max_context_length
    return min(deployment.max_context_length, info.max_context_length)


def _explain(suitable: Sequence[Device], free_bytes: Mapping[str, int], demand: Demand) -> str:
    kinds = " or ".join(sorted({device.accelerator_type for device in suitable}))
    free = ", ".join(f"{device.id} {free_bytes[device.id] / GIB:.1f} GiB" for device in suitable)
    return f"needs {demand.num_bytes / GIB:.1f} GiB on one {kinds}; free: {free}"
