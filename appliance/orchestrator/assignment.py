"""What one worker is told to be: made of a deployment's row, its model on disk and the place it was given.

Values only. Where a replica goes is decided in `planning.py`, what it needs in `placement.py`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import msgspec

from appliance.config import FleetSettings
from appliance.domain import Deployment
from appliance.orchestrator.gpus import CPU, Device
from appliance.orchestrator.placement import context_length_of, dtype_of, find_lack, keeps_fp8, keeps_latents
from models.fixed_sizing import served_weight_bytes
from models.info import AnyServedInfo, DiffusionInfo, EmbeddingInfo, ModelInfo, WhisperInfo
from models.sizing import weight_bytes
from runtime.protocol import Load
from runtime.settings import (
    DiffusionSettings,
    DraftModel,
    Dtype,
    EmbeddingSettings,
    EngineSettings,
    LlmSettings,
    Speculation,
    WhisperSettings,
)


class Served(NamedTuple):
    """A model that a worker may load."""

    directory: Path
    info: AnyServedInfo


class ReplicaPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which worker to run, and where."""

    account_id: str
    deployment_id: str
    deployment_name: str
    index: int
    revision: int = 1
    devices: tuple[Device, ...]
    reserved_bytes: int
    """On each of its devices."""
    host_bytes: int = 0
    """What it would keep in host memory while asleep, by estimate; 0: it is stopped instead."""
    footprint_key: str = ""
    """Under which what it measures is remembered; empty: nowhere."""
    load: Load

    @property
    def label(self) -> str:
        """For logs, and as owner of its reservation."""
        return f"{self.deployment_name}/replicas/{self.index}"

    @property
    def device_ids(self) -> list[str]:
        return [device.id for device in self.devices]


class Place(NamedTuple):
    """Where a replica was put."""

    replica_index: int
    devices: tuple[Device, ...]
    num_bytes: int
    """To be reserved on each device."""


def assign(
    deployment: Deployment,
    served: Served,
    draft: Served | None,
    place: Place,
    settings: FleetSettings,
    *,
    num_devices: int,
    footprint_key: str,
    fixed_bytes: int,
) -> ReplicaPlan:
    """`num_devices`: of the whole box, which share its processor's cores; `fixed_bytes`: of the place, on each of its
    devices, what is not for the KV cache."""
    info = served.info
    models: list[AnyServedInfo] = [info] if draft is None else [info, draft.info]
    dtype = dtype_of(deployment, info, place.devices[0].is_cuda)
    stays = keeps_fp8(deployment, info, place.devices)
    return ReplicaPlan(
        account_id=deployment.account_id,
        deployment_id=deployment.id,
        deployment_name=deployment.name,
        index=place.replica_index,
        revision=deployment.revision,
        devices=place.devices,
        reserved_bytes=place.num_bytes,
        host_bytes=sum(_weight_bytes(model, dtype, stays) for model in models) if can_sleep(place.devices) else 0,
        footprint_key=footprint_key,
        load=Load(
            model_dir=str(served.directory),
            file_sha256=info.file_sha256,
            settings=_settings(deployment, info, draft, place, settings, num_devices, fixed_bytes),
            deployment=deployment.name,
            replica=place.replica_index,
        ),
    )


def _settings(
    deployment: Deployment,
    info: AnyServedInfo,
    draft: Served | None,
    place: Place,
    settings: FleetSettings,
    num_devices: int,
    fixed_bytes: int,
) -> EngineSettings:
    is_cuda = place.devices[0].is_cuda
    dtype = dtype_of(deployment, info, is_cuda)
    every: dict[str, Any] = {
        "device": "cuda:0" if is_cuda else "cpu",  # a worker sees no devices but its own
        "memory_budget_bytes": place.num_bytes,
        "num_threads": max(1, len(os.sched_getaffinity(0)) // num_devices),
    }
    match info:
        case ModelInfo():
            return LlmSettings(
                **every,
                dtype=dtype,
                num_devices=len(place.devices),
                keeps_fp8=keeps_fp8(deployment, info, place.devices),
                fixed_bytes=fixed_bytes,
                max_context_length=context_length_of(deployment, info),
                max_num_requests=settings.max_num_requests,
                max_batch_tokens=settings.batch_tokens(is_cuda=is_cuda),
                block_size=settings.block_size,
                kv_cache_dtype=settings.kv_cache_dtype,
                keeps_latents=keeps_latents(deployment, settings),
                enable_prefix_cache=settings.enable_prefix_cache,
                enable_patches=settings.enable_patches,
                enable_kernels=settings.enable_kernels,
                enable_graphs=settings.enable_graphs,
                look_ahead=None if settings.enable_look_ahead else False,
                speculation=_speculation(deployment, draft),
                max_num_adapters=settings.addons_max if deployment.enable_addons else 0,
                max_adapter_rank=settings.addon_rank_max,
            )
        case EmbeddingInfo():
            return EmbeddingSettings(
                **every,
                dtype=dtype,
                max_context_length=context_length_of(deployment, info),
                max_batch_tokens=settings.embedding_batch_tokens,
            )
        case WhisperInfo():
            return WhisperSettings(
                **every, compute_type=compute_type_of(info, dtype, is_cuda), max_batch_size=settings.whisper_batch_size
            )
        case DiffusionInfo():
            return DiffusionSettings(
                **every,
                dtype=dtype,
                max_batch_size=settings.diffusion_batch_size,
                max_pixels=settings.picture_pixels_max,
                max_num_adapters=settings.addons_max if deployment.enable_addons else 0,
            )
    assert_never(info)


def compute_type_of(info: WhisperInfo, dtype: Dtype, is_cuda: bool) -> str:
    """CTranslate2's name for what it computes with: its CPU kernels know float32 and int8 only."""
    if info.dtype == "int8":
        return "int8_float16" if is_cuda else "int8"
    return dtype if is_cuda else "float32"


def _weight_bytes(info: AnyServedInfo, dtype: Dtype, stays_fp8: bool) -> int:
    if isinstance(info, ModelInfo):
        return weight_bytes(info, dtype, keeps_fp8=stays_fp8)
    return served_weight_bytes(info, dtype)


def can_sleep(devices: Sequence[Device]) -> bool:
    """Where a device's memory is the host's, sleeping would free nothing."""
    return all(device.accelerator_type != CPU for device in devices)


def find_obstacle(deployment: Deployment, devices: Sequence[Device]) -> str:
    """Why this box can never run it, whatever is free; empty when it can."""
    return find_lack(devices, deployment.accelerator_type, deployment.accelerator_count)


def _speculation(deployment: Deployment, draft: Served | None) -> Speculation:
    draft_model = None
    if draft is not None:
        draft_model = DraftModel(model_dir=str(draft.directory), file_sha256=draft.info.file_sha256)
    return Speculation(
        num_draft_tokens=deployment.draft_token_count or 0,
        ngram_length=deployment.ngram_speculation_length or 0,
        draft_model=draft_model,
    )
