"""The parts of a diffusers folder, each read by a class that is named here, and by no other: no code of a folder runs.

Owns what has to be so that the painters can serve a folder. Knows nothing of requests.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.utils import logging as diffusers_logging
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.utils import logging as transformers_logging

from models.info import DiffusionInfo
from runtime.diffusion.schedulers import Schedulers
from runtime.engine import LoadRefused

CONTROL_NETS = "controlnet"
SAFETY_CHECKER, FEATURE_EXTRACTOR = "safety_checker", "feature_extractor"

_MODELS: dict[str, dict[str, Any]] = {
    "sdxl": {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
    },
    "flux": {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": T5EncoderModel,
        "transformer": FluxTransformer2DModel,
        "vae": AutoencoderKL,
    },
}
_TOKENIZERS: dict[str, dict[str, Any]] = {
    "sdxl": {"tokenizer": CLIPTokenizer, "tokenizer_2": CLIPTokenizer},
    "flux": {"tokenizer": CLIPTokenizer, "tokenizer_2": T5TokenizerFast},
}


class SafetyParts(NamedTuple):
    checker: Any
    extractor: Any


class Parts(NamedTuple):
    """All on the device."""

    models: Mapping[str, Any]
    tokenizers: Mapping[str, Any]
    schedulers: Schedulers
    control_nets: Mapping[str, Any]
    safety: SafetyParts | None
    settings: Mapping[str, Any]
    """model_index.json: what its pipeline is told beside the parts."""


def load_parts(
    directory: Path,
    info: DiffusionInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    report: Callable[[float], None],
) -> Parts:
    """Raises LoadRefused; `report` is told fractions."""
    # Their warnings show what was cut off a prompt: nobody's words belong in a log.
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    index = _read_json(directory, "model_index.json")
    _check_configs(directory, info, index)
    wanted: list[tuple[str, Any]] = list(_MODELS[info.pipeline].items())
    wanted += [(f"{CONTROL_NETS}/{name}", ControlNetModel) for name in info.control_nets]
    if info.has_safety_checker:
        wanted.append((SAFETY_CHECKER, StableDiffusionSafetyChecker))
    models: dict[str, Any] = {}
    for number, (part, kind) in enumerate(wanted):
        report(number / len(wanted))
        models[part] = _load_model(directory, part, kind, info, dtype).to(device)
    control_nets = {name: models.pop(f"{CONTROL_NETS}/{name}") for name in info.control_nets}
    safety = None
    if info.has_safety_checker:
        extractor = CLIPImageProcessor.from_pretrained(directory / FEATURE_EXTRACTOR, local_files_only=True)
        safety = SafetyParts(models.pop(SAFETY_CHECKER), extractor)
    return Parts(
        models=models,
        tokenizers={
            part: kind.from_pretrained(directory / part, local_files_only=True)
            for part, kind in _TOKENIZERS[info.pipeline].items()
        },
        schedulers=Schedulers(
            _read_json(directory, "scheduler/scheduler_config.json"), is_flow=info.pipeline == "flux"
        ),
        control_nets=control_nets,
        safety=safety,
        settings=index,
    )


def _load_model(directory: Path, part: str, kind: Any, info: DiffusionInfo, dtype: torch.dtype) -> Any:
    model, found = kind.from_pretrained(
        directory / part,
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant=_variant(part, info),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # to be told of them instead
    )
    # Left alone, both libraries go on with whatever is in memory there.
    if lacking := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise LoadRefused(f"{part}: has no {lacking[0]} of the shape that its config calls for")
    return model.eval()


def _variant(part: str, info: DiffusionInfo) -> str | None:
    """`fp16` where a part is stored as `NAME.fp16.safetensors` only."""
    weights = [name for name in info.file_sha256 if name.startswith(f"{part}/") and name.endswith(".safetensors")]
    return "fp16" if weights and all(".fp16." in name for name in weights) else None


def _read_json(directory: Path, file: str) -> Any:
    """Its shape was checked when the folder was inspected."""
    return json.loads((directory / file).read_bytes())


def _check_configs(directory: Path, info: DiffusionInfo, index: Mapping[str, Any]) -> None:
    """What a config can ask for and the painters do not do."""
    if info.pipeline == "sdxl":
        unet = _read_json(directory, "unet/config.json")
        if unet.get("in_channels", 4) != 4:
            raise LoadRefused("unet: models that read a mask beside the picture (inpainting UNets) are not supported")
        if unet.get("time_cond_proj_dim") is not None:
            raise LoadRefused("unet: models that are told the guidance scale (time_cond_proj_dim) are not supported")
        if index.get("requires_aesthetics_score"):
            raise LoadRefused("model_index.json: refiners (requires_aesthetics_score) are not supported")
    for name in info.control_nets:
        if _read_json(directory, f"{CONTROL_NETS}/{name}/config.json").get("global_pool_conditions"):
            raise LoadRefused(f"{CONTROL_NETS}/{name}: global_pool_conditions is not supported")
