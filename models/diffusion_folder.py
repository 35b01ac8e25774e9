"""A diffusers folder becomes a DiffusionInfo, or is refused with a reason that names the file.

Which classes its parts may have is a closed table: nothing is looked up by a name found in the folder. Headers of
weights are checked, and that configs fit one another; that every tensor is there, the loader in the worker checks.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from models.checkpoint import StoredTensor, most_common_dtype, read_shards, require_dtype
from models.folder import ModelFolder
from models.folder_rules import REMOTE_CODE, name_ignored, read_config, refuse_pickles
from models.info import DiffusionInfo
from models.pipelines import PIPELINES, SCHEDULERS, Part, Pipeline
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.tokenizer_files import TOKENIZER_CONFIG

MODEL_INDEX = "model_index.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
SAFETY_CHECKER, FEATURE_EXTRACTOR = "safety_checker", "feature_extractor"
CONTROL_NET = re.compile(r"controlnet/([a-z0-9][a-z0-9_.-]{0,62})/config\.json")

_T = TypeVar("_T", bound=msgspec.Struct)
_LEAVES = ("feature_extractor", "image_encoder", "safety_checker")
"""Parts that a pipeline may go without; a safety checker is used when its folder is there."""
_VARIANT = "fp16"
_SMALL_FILE_BYTES_MAX = 64 * 1024 * 1024
_Edge = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Channels = Annotated[list[_Edge], msgspec.Meta(min_length=1, max_length=16)]


class _Vae(msgspec.Struct, frozen=True):
    block_out_channels: _Channels
    latent_channels: _Edge
    in_channels: _Edge = 3
    out_channels: _Edge = 3
    sample_size: _Edge = 1024

    @property
    def scale(self) -> int:
        """Pixels of an edge that become one latent."""
        return int(2 ** (len(self.block_out_channels) - 1))


class _Unet(msgspec.Struct, frozen=True):
    block_out_channels: _Channels
    in_channels: _Edge = 4
    sample_size: _Edge = 128


class _Transformer(msgspec.Struct, frozen=True):
    in_channels: _Edge
    num_attention_heads: _Edge
    attention_head_dim: _Edge
    guidance_embeds: bool = False


class _Tokenizer(msgspec.Struct, frozen=True):
    model_max_length: Annotated[float, msgspec.Meta(gt=0)] = 77


class _Shape(NamedTuple):
    default_size: int
    denoiser_width: int
    vae: _Vae
    is_distilled: bool = False


def inspect_diffusion(directory: Path, known_sha256: Mapping[str, str] = {}) -> DiffusionInfo:
    """Read and check the folder; raises ModelRefused. Blocking: hashes every weight byte that is not known."""
    with ModelFolder(directory, known_sha256) as folder:
        files = folder.list_tree()
        refuse_pickles(files)
        name, pipeline = read_pipeline(folder)
        _check_scheduler(folder)
        variant = _find_variant(pipeline.parts[pipeline.denoiser], pipeline.denoiser, files)
        stored: dict[str, dict[str, StoredTensor]] = {}
        warnings: list[str] = []
        for component, part in {**pipeline.parts, **_beside(files)}.items():
            warnings += _check_class(folder, component, part)
            stored[component] = _read_weights(folder, files, component, part, variant)
        shape = _shape(folder, pipeline)
        lengths = [_read_tokenizer(folder, files, component) for component in pipeline.tokenizers]
        if SAFETY_CHECKER in stored:
            _hash_all(folder, files, FEATURE_EXTRACTOR)
        tensors = [tensor for component in stored.values() for tensor in component.values()]
        return DiffusionInfo(
            architecture=name,
            model_type=pipeline.kind,
            dtype=most_common_dtype(stored[pipeline.denoiser].values()),
            num_parameters=sum(math.prod(entry.shape) for _, entry in tensors),
            weight_bytes=sum(entry.size_bytes for _, entry in tensors),
            max_context_length=lengths[-1],
            pipeline=pipeline.kind,
            components={
                component: sum(entry.size_bytes for _, entry in found.values()) for component, found in stored.items()
            },
            control_nets=sorted(component.partition("/")[2] for component in stored if "/" in component),
            default_size=shape.default_size,
            is_distilled=shape.is_distilled,
            variant=variant,
            has_safety_checker=SAFETY_CHECKER in stored,
            denoiser_width=shape.denoiser_width,
            vae_channels=shape.vae.block_out_channels,
            warnings=[*warnings, *name_ignored([each for each in files if each not in folder.sha256], [])],
            file_sha256=dict(sorted(folder.sha256.items())),
        )


def read_pipeline(folder: ModelFolder) -> tuple[str, Pipeline]:
    """Which of the pipelines model_index.json describes, with exactly its parts; raises ModelRefused."""
    index = read_config(folder, MODEL_INDEX)
    name = index.get("_class_name")
    pipeline = PIPELINES.get(name) if isinstance(name, str) else None
    if not isinstance(name, str) or pipeline is None:
        message = f"the pipeline {str(name)[:100]!r} is not supported; supported are {', '.join(PIPELINES)}"
        raise _refused(message, RefusalReason.UNSUPPORTED_ARCHITECTURE)
    wanted = {component: part.classes for component, part in pipeline.parts.items()}
    wanted |= {component: pipeline.tokenizer_classes(component) for component in pipeline.tokenizers}
    wanted["scheduler"] = frozenset(("diffusers", each) for each in SCHEDULERS)
    for component, stated in index.items():
        if component in wanted:
            if not isinstance(stated, list) or len(stated) != 2 or tuple(stated) not in wanted[component]:
                raise _refused(f"{component} is {_shown(stated)}, which is not served: {_listed(wanted[component])} is")
        elif isinstance(stated, list | dict) and not _may_be_left_out(component, stated):
            raise _refused(
                f"{component} is {_shown(stated)}, no part of {name} as it is served; custom parts never run"
            )
    if missing := sorted(wanted.keys() - index.keys()):
        raise _refused(f"lacks {', '.join(missing)}")
    return name, pipeline


def _may_be_left_out(component: str, stated: list[Any] | dict[str, Any]) -> bool:
    return component in _LEAVES and isinstance(stated, list) and stated[:1] in ([None], ["diffusers"], ["transformers"])


def _beside(files: list[str]) -> dict[str, Part]:
    """Parts that no index names: ControlNets in folders of theirs, and a safety checker."""
    found = {}
    for name in files:
        if CONTROL_NET.fullmatch(name):
            found[name.removesuffix("/config.json")] = Part(frozenset({("diffusers", "ControlNetModel")}))
    if f"{SAFETY_CHECKER}/{CONFIG}" in files:
        found[SAFETY_CHECKER] = Part(frozenset({("transformers", "StableDiffusionSafetyChecker")}), "model")
    return found


def _check_class(folder: ModelFolder, component: str, part: Part) -> list[str]:
    """What was ignored. The index said what a part is; its own config must say the same."""
    name = f"{component}/{CONFIG}"
    config = read_config(folder, name)
    stated = config.get("_class_name")
    if part.weights == "model":
        match config.get("architectures"):
            case [str(architecture)]:
                stated = architecture
    names = {class_name for _, class_name in part.classes}
    if stated not in names:
        message = f"is of the class {str(stated)[:100]!r}, which is not {' or '.join(sorted(names))}"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, name)
    if config.get("quantization_config") is not None:
        raise ModelRefused(RefusalReason.UNSUPPORTED_QUANTIZATION, "quantised weights are not supported", name)
    return [REMOTE_CODE.format(name)] if "auto_map" in config else []


def _find_variant(part: Part, component: str, files: list[str]) -> str:
    """`fp16` where the weights are there under such names only."""
    return (
        "" if _has_weights(part, component, files) or not _has_weights(part, component, files, _VARIANT) else _VARIANT
    )


def _has_weights(part: Part, component: str, files: list[str], variant: str = "") -> bool:
    return part.weights_file(component, variant) in files or part.weights_index(component, variant) in files


def _read_weights(
    folder: ModelFolder, files: list[str], component: str, part: Part, variant: str
) -> dict[str, StoredTensor]:
    if not _has_weights(part, component, files, variant):
        variant = ""
    stored = read_shards(folder, files, part.weights_file(component, variant), part.weights_index(component, variant))
    for name, (file, entry) in list(stored.items()):
        if entry.dtype.startswith(("I", "U")):
            del stored[name]  # positions, which can be computed
        else:
            require_dtype(name, file, entry)
    return stored


def _check_scheduler(folder: ModelFolder) -> None:
    name = read_config(folder, SCHEDULER_CONFIG).get("_class_name")
    if name not in SCHEDULERS:
        message = f"the scheduler {str(name)[:100]!r} is not supported"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, SCHEDULER_CONFIG)


def _shape(folder: ModelFolder, pipeline: Pipeline) -> _Shape:
    vae = _read(folder, f"vae/{CONFIG}", _Vae)
    name = f"{pipeline.denoiser}/{CONFIG}"
    if pipeline.kind == "sdxl":
        unet = _read(folder, name, _Unet)
        _require_channels(unet.in_channels, vae.latent_channels, name)
        return _Shape(unet.sample_size * vae.scale, max(unet.block_out_channels), vae)
    transformer = _read(folder, name, _Transformer)
    _require_channels(transformer.in_channels, 4 * vae.latent_channels, name)
    width = transformer.num_attention_heads * transformer.attention_head_dim
    return _Shape(vae.sample_size, width, vae, is_distilled=not transformer.guidance_embeds)


def _require_channels(stated: int, needed: int, name: str) -> None:
    if stated != needed:
        message = f"in_channels is {stated}, text-to-image with this VAE needs {needed}"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ARCHITECTURE, message, name)


def _read_tokenizer(folder: ModelFolder, files: list[str], component: str) -> int:
    """How many tokens it makes of a text at most."""
    _hash_all(folder, files, component)
    stated = _read(folder, f"{component}/{TOKENIZER_CONFIG}", _Tokenizer)
    return int(min(stated.model_max_length, 512))


def _hash_all(folder: ModelFolder, files: list[str], component: str) -> None:
    """Small files that the worker reads as they are."""
    for name in files:
        if name.startswith(f"{component}/") and name.endswith((".json", ".txt", ".model")):
            folder.read(name, bytes_max=_SMALL_FILE_BYTES_MAX)


def _read(folder: ModelFolder, name: str, type_: type[_T]) -> _T:
    try:
        return msgspec.convert(read_config(folder, name), type_)
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.INVALID_CONFIG, str(error), name) from error


def _listed(classes: frozenset[tuple[str, str]]) -> str:
    return " or ".join(sorted(name for _, name in classes)[:4])


def _shown(value: Any) -> str:
    return repr(value)[:100]


def _refused(message: str, reason: RefusalReason = RefusalReason.UNSUPPORTED_ARCHITECTURE) -> ModelRefused:
    return ModelRefused(reason, message, MODEL_INDEX)
