"""What replicas were measured to hold, and how long their loads took: under which key, and how it is averaged. Pure."""

import hashlib

import msgspec

from appliance.config import FleetSettings
from appliance.domain import Deployment, Footprint
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.placement import context_length_of, dtype_of, keeps_fp8
from models.info import AnyServedInfo, ModelInfo
from runtime.protocol import Loaded

NEWEST_WEIGHT = 0.3
"""Of the newest measurement in a running average."""


def footprint_key(
    deployment: Deployment,
    info: AnyServedInfo,
    settings: FleetSettings,
    device: Device,
    *,
    draft: ModelInfo | None = None,
    version: str,
) -> str:
    """Equal for replicas that hold the same. Which of several models, what it is served as, and with what software:
    `version`. The size of the KV cache is not among it, since it is measured apart."""
    matters = (
        sorted(info.file_sha256.items()),
        None if draft is None else sorted(draft.file_sha256.items()),
        (dtype_of(deployment, info, device.is_cuda), keeps_fp8(deployment, info, [device])),
        context_length_of(deployment, info),
        (deployment.draft_token_count, deployment.ngram_speculation_length),
        (settings.addons_max, settings.addon_rank_max) if deployment.enable_addons else None,
        (settings.batch_tokens(is_cuda=device.is_cuda), settings.max_num_requests, settings.block_size),
        (device.accelerator_type, device.is_cuda, deployment.accelerator_count),
        version,
    )
    return hashlib.sha256(msgspec.json.encode(matters)).hexdigest()


def learn(key: str, previous: Footprint | None, loaded: Loaded, load_s: float, is_warm: bool, now: float) -> Footprint:
    """What is known after one more load; `is_warm`: by a worker that had its libraries already.

    Bytes follow a larger measurement at once and a smaller one slowly: too little reserved costs more than too much.
    """
    beside_kv = loaded.footprint_bytes - loaded.kv_bytes
    if previous is not None:
        beside_kv = max(beside_kv, round(_average(previous.num_bytes - previous.kv_bytes, beside_kv)))
    cold_s = previous.load_s if previous is not None else None
    warm_s = previous.warm_load_s if previous is not None else None
    if is_warm:
        # Before the first cold load a warm one is the best guess there is.
        cold_s, warm_s = (load_s if cold_s is None else cold_s), _average(warm_s, load_s)
    else:
        cold_s = _average(cold_s, load_s)
    return Footprint(
        key=key,
        num_bytes=beside_kv + loaded.kv_bytes,
        kv_bytes=loaded.kv_bytes,
        load_s=cold_s,
        warm_load_s=warm_s,
        measured_at=now,
    )


def _average(known: float | None, newest: float) -> float:
    return newest if known is None else known + NEWEST_WEIGHT * (newest - known)
