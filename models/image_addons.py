"""A LoRA addon of an image model becomes an AddonInfo, or is refused with a reason that names the file.

Two ways of naming are taken: diffusers' and peft's, whose layers are compared with the base model's weights, and
kohya's, whose names diffusers translates when the worker loads it. Tensor data is hashed, never interpreted.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from models.addon_config import ADDON_CONFIG
from models.checkpoint import DTYPES
from models.folder import ModelFolder
from models.folder_rules import name_ignored, refuse_pickles
from models.info import AddonInfo, DiffusionInfo
from models.refusal import ModelRefused, RefusalReason
from models.safetensors_header import TensorEntry, read_header

RANK_MAX = 512
_SUFFIX = ".safetensors"
_PAIR = re.compile(r"(.+)\.(?:lora_(A|B)|lora\.(down|up)|lora_(down|up))\.weight")
_ALPHA = re.compile(r"(.+)\.alpha")
_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_transformer_")
_FIRST = {"A", "down"}
_TEXT_ENCODER = "text_encoder"

Shapes = dict[str, tuple[int, ...]]


class _Pair(NamedTuple):
    down: TensorEntry
    up: TensorEntry


def inspect_image_addon(
    directory: Path, base_directory: Path, base: DiffusionInfo, *, known_sha256: Mapping[str, str] = {}
) -> AddonInfo:
    """Read and check the folder against its base model's; raises ModelRefused. Blocking: hashes the weights."""
    with ModelFolder(directory, known_sha256) as folder:
        files, folders = folder.list_entries()
        refuse_pickles(files)
        weights = _find_weights(files)
        with folder.open(weights) as file:
            tensors = read_header(file, weights)
            folder.hash(weights, file)
        pairs = _pair(tensors, weights)
        shapes = _base_shapes(base_directory, base)
        for module, pair in pairs.items():
            _check_pair(module, pair, shapes, base, weights)
        bytes_by_dtype: Counter[str] = Counter()
        for entry in tensors.values():
            bytes_by_dtype[entry.dtype] += entry.size_bytes
        return AddonInfo(
            rank=max(pair.down.shape[0] for pair in pairs.values()),
            scaling=1.0,
            target_modules=sorted({_kind(module) for module in pairs}),
            dtype=DTYPES[bytes_by_dtype.most_common(1)[0][0]],
            num_parameters=sum(math.prod(entry.shape) for entry in tensors.values()),
            weight_bytes=bytes_by_dtype.total(),
            warnings=name_ignored([name for name in files if name != weights], folders),
            file_sha256=dict(folder.sha256),
        )


def _find_weights(files: list[str]) -> str:
    found = [name for name in files if name.endswith(_SUFFIX)]
    if len(found) == 1:
        return found[0]
    message = f"holds {len(found)} safetensors files; an image addon is one" if found else f"holds no {_SUFFIX} file"
    hint = f" beside {ADDON_CONFIG}" if ADDON_CONFIG in files else ""
    raise ModelRefused(RefusalReason.MISSING_FILE if not found else RefusalReason.UNSUPPORTED_ADDON, message + hint)


def _pair(tensors: dict[str, TensorEntry], weights: str) -> dict[str, _Pair]:
    """By the adapted layer's path, as it is stored."""
    halves: dict[str, dict[bool, TensorEntry]] = {}
    for name, entry in tensors.items():
        match = _PAIR.fullmatch(name)
        if match is None and _ALPHA.fullmatch(name) is None:
            message = f"tensor {name[:200]!r} is none of a LoRA's two matrices or its alpha"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ADDON, message, weights)
        if entry.dtype not in DTYPES:
            message = f"tensor {name[:200]!r} has dtype {entry.dtype}; supported are {', '.join(DTYPES)}"
            raise ModelRefused(RefusalReason.WRONG_TENSOR, message, weights)
        if match is not None:
            is_first = (match[2] or match[3] or match[4]) in _FIRST
            if is_first in halves.setdefault(match[1], {}):
                message = f"the layer {match[1][:200]!r} is adapted twice, under two names"
                raise ModelRefused(RefusalReason.DUPLICATE_TENSOR, message, weights)
            halves[match[1]][is_first] = entry
    if lonely := [module for module, found in halves.items() if len(found) != 2]:
        message = f"the layer {lonely[0][:200]!r} has one matrix of two"
        raise ModelRefused(RefusalReason.MISSING_TENSOR, message, weights)
    if not halves:
        raise ModelRefused(RefusalReason.UNSUPPORTED_ADDON, "holds no LoRA", weights)
    return {module: _Pair(found[True], found[False]) for module, found in halves.items()}


def _check_pair(module: str, pair: _Pair, shapes: Shapes, base: DiffusionInfo, weights: str) -> None:
    down, up = pair.down.shape, pair.up.shape
    if len(down) not in (2, 4) or len(down) != len(up) or down[0] != up[1] or not 1 <= down[0] <= RANK_MAX:
        message = f"the layer {module[:200]!r} has matrices {list(down)} and {list(up)} of no rank up to {RANK_MAX}"
        raise ModelRefused(RefusalReason.WRONG_TENSOR, message, weights)
    if module.startswith(_KOHYA):
        return
    shape = shapes.get(_stored_name(module, base))
    if shape is None:
        message = f"{module[:200]!r} is no layer of the base model, a {base.architecture}"
        raise ModelRefused(RefusalReason.UNSUPPORTED_ADDON, message, weights)
    if shape[0] != up[0] or shape[1] != down[1] or (len(shape) == 4 and len(down) == 4 and shape[2:] != down[2:]):
        message = (
            f"the layer {module[:200]!r} is {list(shape)} in the base model; {list(down)} and {list(up)} do not fit"
        )
        raise ModelRefused(RefusalReason.WRONG_TENSOR, message, weights)


def _stored_name(module: str, base: DiffusionInfo) -> str:
    """Component and path of the layer's weight in the base model's files."""
    name = module.removeprefix("base_model.model.").removeprefix("diffusion_model.")
    component, _, path = name.partition(".")
    if component not in base.components:
        component, path = "unet" if base.pipeline == "sdxl" else "transformer", name
    return f"{component}/{path}.weight"


def _base_shapes(directory: Path, base: DiffusionInfo) -> Shapes:
    """Of all weights of the base model, by component and name; with and without the part that text encoders repeat."""
    shapes: Shapes = {}
    with ModelFolder(directory) as folder:
        for name in base.file_sha256:
            component, slash, _ = name.rpartition("/")
            if slash and name.endswith(_SUFFIX):
                with folder.open(name) as file:
                    for tensor, entry in read_header(file, name).items():
                        shapes[f"{component}/{tensor}"] = entry.shape
                        if component.startswith(_TEXT_ENCODER):
                            shapes[f"{component}/text_model.{tensor.removeprefix('text_model.')}"] = entry.shape
                            shapes[f"{component}/{tensor.removeprefix('text_model.')}"] = entry.shape
    return shapes


def _kind(module: str) -> str:
    """The last part of its name that is no number; of flat names, all of it is one word and the component is told."""
    if module.startswith(_KOHYA):
        return next(prefix for prefix in _KOHYA if module.startswith(prefix)).strip("_")
    return next(part for part in reversed(module.split(".")) if not part.isdigit())
