"""What a replica needs and where it goes: pure functions of devices, free bytes and a deployment.

No clock, no log, no await. Who makes room for whom is `room.py`; why there is none is said by `explaining.py`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, assert_never

from appliance.config import FleetSettings
from appliance.domain import Deployment, Footprint, Precision, ShapePreset
from appliance.orchestrator.fleet import Demand
from appliance.orchestrator.gpus import Device
from models.fixed_sizing import FixedInfo, fixed_replica_bytes
from models.fixed_sizing import step_bytes as fixed_step_bytes
from models.info import AnyServedInfo, DiffusionInfo, EmbeddingInfo, ModelInfo, WhisperInfo
from models.sizing import fixed_bytes, kv_cache_bytes, step_bytes
from runtime.settings import Dtype

_DTYPES: dict[Precision, Dtype] = {
    Precision.BF16: "bfloat16",
    Precision.FP16: "float16",
    Precision.FP32: "float32",
    Precision.FP8: "bfloat16",  # of all that is not in 8 bits
}


class Placement(NamedTuple):
    device_ids: tuple[str, ...]
    num_bytes: int
    """To be reserved on each device."""


# ---- where


def place(devices: Sequence[Device], free_bytes: Mapping[str, int], demand: Demand) -> Placement | None:
    """The devices, all of one type, that fit tightest; for one that takes all that is free, the roomiest."""
    chosen: list[Device] = []
    for group in groups_of_a_type(suitable(devices, demand)):
        roomy = [device for device in group if free_bytes[device.id] >= demand.num_bytes]
        if len(roomy) < demand.accelerator_count:
            continue
        sign = -1 if demand.takes_all_free else 1
        roomy.sort(key=lambda device: (sign * free_bytes[device.id], device.index))
        candidates = roomy[: demand.accelerator_count]
        if not chosen or sign * _total(free_bytes, candidates) < sign * _total(free_bytes, chosen):
            chosen = candidates
    if not chosen:
        return None
    num_bytes = min(free_bytes[device.id] for device in chosen) if demand.takes_all_free else demand.num_bytes
    return Placement(tuple(device.id for device in chosen), num_bytes)


def place_best(devices: Sequence[Device], free_bytes: Mapping[str, int], demands: Iterable[Demand]) -> Placement | None:
    """The first of the demands, best first, that has a place."""
    return next((found for demand in demands if (found := place(devices, free_bytes, demand))), None)


def suitable(devices: Sequence[Device], demand: Demand) -> list[Device]:
    return [
        device
        for device in devices
        if demand.accelerator_type in (None, device.accelerator_type)
        and (not demand.device_ids or device.id in demand.device_ids)
    ]


def find_lack(devices: Sequence[Device], accelerator_type: str | None, accelerator_count: int) -> str:
    """Why a box with these devices can never serve it, whatever is free; empty when it can."""
    by_type = Counter(device.accelerator_type for device in devices)
    largest = max((number for kind, number in by_type.items() if accelerator_type in (None, kind)), default=0)
    if largest >= accelerator_count:
        return ""
    if not largest:
        count = "one" if accelerator_count == 1 else accelerator_count
        return f"needs {count} {accelerator_type or 'device'}; this box has {', '.join(sorted(by_type)) or 'nothing'}"
    what = accelerator_type or "devices of one type"
    return f"needs {accelerator_count} {what} for each replica; this box has {largest}"


def groups_of_a_type(devices: Sequence[Device]) -> Iterator[list[Device]]:
    for accelerator_type in dict.fromkeys(device.accelerator_type for device in devices):
        yield [device for device in devices if device.accelerator_type == accelerator_type]


def _total(free_bytes: Mapping[str, int], devices: Iterable[Device]) -> int:
    return sum(free_bytes[device.id] for device in devices)


# ---- how much


def demands_of(
    deployment: Deployment,
    info: AnyServedInfo,
    settings: FleetSettings,
    devices: Sequence[Device],
    *,
    draft: ModelInfo | None = None,
    footprint: Footprint | None = None,
) -> list[Demand]:
    """What a replica would like, then what it can live with: KV for half as many requests each time, down to one.

    A fraction of the device for the KV cache comes before all that, and THROUGHPUT takes whatever is free besides.
    """
    count, kind = deployment.accelerator_count, deployment.accelerator_type
    fixed = fixed_bytes_of(deployment, info, settings, devices, draft=draft, footprint=footprint)
    if not isinstance(info, ModelInfo):
        return [Demand(fixed, kind, count)]
    one_request = kv_cache_bytes(
        _models(deployment, info, settings, draft),
        dtype_of(deployment, info, _is_cuda(devices)),
        max_context_length=context_length_of(deployment, info),
        concurrency=1,
        num_devices=count,
        is_kv_fp8=settings.kv_cache_dtype == "fp8",
    )
    is_minimal = deployment.shape_preset is ShapePreset.MINIMAL
    sizes = [one_request * each for each in _halvings(1 if is_minimal else settings.kv_cache_concurrency)]
    takes_all = deployment.shape_preset is ShapePreset.THROUGHPUT
    if deployment.kv_cache_fraction is not None:
        memory_bytes = min((each.memory_bytes for each in devices if kind in (None, each.accelerator_type)), default=0)
        asked = min(int(deployment.kv_cache_fraction * memory_bytes), memory_bytes - fixed)
        # Less than one request of full length would serve nobody who uses the context that is promised.
        asked, takes_all = max(asked, one_request), False
        sizes = [asked, *(size for size in sizes if size < asked)]
    return [Demand(fixed + size, kind, count, takes_all_free=takes_all) for size in sizes]


def fixed_bytes_of(
    deployment: Deployment,
    info: AnyServedInfo,
    settings: FleetSettings,
    devices: Sequence[Device],
    *,
    draft: ModelInfo | None = None,
    footprint: Footprint | None = None,
) -> int:
    """On each of its devices, all that a replica holds beside its KV cache: as measured, else as estimated.

    A measurement is taken before the first full step, so that the estimate of what a step holds comes on top; of
    several devices it is of the one that holds most.
    """
    is_cuda = _is_cuda(devices)
    dtype = dtype_of(deployment, info, is_cuda)
    if not isinstance(info, ModelInfo):
        batch_size = batch_size_of(info, settings)
        if footprint is not None:
            return footprint.num_bytes + fixed_step_bytes(info, dtype, batch_size)
        return fixed_replica_bytes(info, dtype, batch_size=batch_size, is_cuda=is_cuda)
    models, tokens = _models(deployment, info, settings, draft), settings.batch_tokens(is_cuda=is_cuda)
    requests, has_graphs = settings.max_num_requests, is_cuda and settings.enable_graphs
    if footprint is not None:
        keeps = keeps_fp8(deployment, info, devices)
        step = step_bytes(models, dtype, tokens, requests, keeps_fp8=keeps, has_graphs=has_graphs)
        return footprint.num_bytes - footprint.kv_bytes + step
    return fixed_bytes(
        models,
        dtype,
        max_batch_tokens=tokens,
        max_num_requests=requests,
        is_cuda=is_cuda,
        num_adapters=settings.addons_max if deployment.enable_addons else 0,
        max_adapter_rank=settings.addon_rank_max,
        num_devices=deployment.accelerator_count,
        keeps_fp8=keeps_fp8(deployment, info, devices),
        has_graphs=has_graphs,
    )


def batch_size_of(info: FixedInfo, settings: FleetSettings) -> int:
    """Tokens, windows of sound or pictures of one step."""
    match info:
        case EmbeddingInfo():
            return settings.embedding_batch_tokens
        case WhisperInfo():
            return settings.whisper_batch_size
        case DiffusionInfo():
            return settings.diffusion_batch_size
    assert_never(info)


def dtype_of(deployment: Deployment, info: AnyServedInfo, is_cuda: bool) -> Dtype:
    """As the deployment says, else as the checkpoint is stored; on a CPU half precision becomes float32.

    Of weights that are stored in integers: what is computed with.
    """
    if deployment.precision is not None:
        dtype = _DTYPES[deployment.precision]
    else:
        dtype = next((dtype for dtype in _DTYPES.values() if dtype == info.dtype), "float16")
    # CPU kernels for float16 are missing or slow; float32 holds every float16 value, bfloat16 would round them.
    return "float32" if dtype == "float16" and not is_cuda else dtype


def keeps_fp8(deployment: Deployment, info: AnyServedInfo, devices: Iterable[Device]) -> bool:
    """Whether weights that are stored in 8-bit floats stay so: unless another precision is asked for, on devices that
    multiply them, whose products are bfloat16."""
    asked = deployment.precision in (None, Precision.FP8) and dtype_of(deployment, info, is_cuda=True) == "bfloat16"
    candidates = [device for device in devices if deployment.accelerator_type in (None, device.accelerator_type)]
    return asked and bool(candidates) and all(device.multiplies_fp8 for device in candidates)


def keeps_latents(deployment: Deployment, settings: FleetSettings) -> bool:
    """Whether a KV cache holds latents where a model has any. An addon may change what expands them, and several
    devices would each have to hold all of them."""
    return settings.enable_latent_cache and not deployment.enable_addons and deployment.accelerator_count == 1


def context_length_of(deployment: Deployment, info: AnyServedInfo) -> int:
    if deployment.max_context_length is None:
        return info.max_context_length
    return min(deployment.max_context_length, info.max_context_length)


def _is_cuda(devices: Iterable[Device]) -> bool:
    return any(device.is_cuda for device in devices)


def _models(
    deployment: Deployment, info: ModelInfo, settings: FleetSettings, draft: ModelInfo | None
) -> list[ModelInfo]:
    """As they are served: with latents in place of keys and values, or with those."""
    models = [info] if draft is None else [info, draft]
    return [model.compressed() for model in models] if keeps_latents(deployment, settings) else models


def _halvings(count: int) -> Iterator[int]:
    while count >= 1:
        yield count
        count //= 2
