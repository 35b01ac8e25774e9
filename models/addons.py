"""A PEFT addon's folder becomes an AddonInfo, or is refused with a reason that names the file.

Two matrices for each linear layer that it adapts, in one safetensors file, with shapes that fit the base model: nothing
less, nothing else. Tensor data is hashed, never interpreted; a worker may later read exactly what `file_sha256` lists.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from models.addon_config import ADDON_CONFIG, RANK_MAX, AddonConfig, read_addon_config
from models.architectures import read_decoder_config
from models.checkpoint import DTYPES
from models.folder import ModelFolder
from models.folder_rules import read_config, refuse_pickles
from models.info import AddonInfo, ModelInfo
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.safetensors_header import TensorEntry, read_header
from models.text_halves import text_name
from models.tokenizer_files import TOKENIZER
from models.vision import text_config
from models.vision_tensors import canonical_name

ADDON_WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_TENSOR_NAME = re.compile(r"(.+)\.lora_(A|B)\.weight")
_IN_A_LAYER = re.compile(r".+\.\d+\..+\.weight")
_IN_A_MIXTURE = re.compile(r".+(\.experts\..+|(\.mlp|\.block_sparse_moe)\.gate)\.weight")
"""Experts, which are kept stacked, and the routers between them."""

Shapes = dict[str, tuple[int, int]]
"""Rows and columns of linear layers' weights, by the layer's path in the text model."""


def inspect_addon(
    directory: Path,
    base_directory: Path,
    base: ModelInfo,
    *,
    known_sha256: Mapping[str, str] = {},
    rank_max: int = RANK_MAX,
) -> AddonInfo:
    """Read and check a PEFT addon's folder against its base model's; raises ModelRefused.

    Blocking: hashes the weights, unless their hash is known from an earlier inspection.
    """
    shapes = adaptable_layers(base_directory)
    with ModelFolder(directory, known_sha256) as folder:
        files, _ = folder.list_entries()
        refuse_pickles(files)
        config = read_addon_config(read_config(folder, ADDON_CONFIG), rank_max)
        with folder.open(ADDON_WEIGHTS) as file:
            tensors = _renamed(read_header(file, ADDON_WEIGHTS), base)
            folder.hash(ADDON_WEIGHTS, file)
        modules = _check_tensors(tensors, shapes, config)
        return _summarise(config, tensors, modules, files, dict(sorted(folder.sha256.items())))


def adaptable_layers(base_directory: Path) -> Shapes:
    """The linear layers of a base model that addons may adapt: all between embedding and head, but no mixture's."""
    with ModelFolder(base_directory) as folder:
        config = read_config(folder, CONFIG)
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in read_decoder_config(text_config(config)).tensors.items()
        if len(shape) == 2 and _IN_A_LAYER.fullmatch(name) and not _IN_A_MIXTURE.fullmatch(name)
    }


def addon_tensor_name(stored: str, base: ModelInfo) -> str:
    """`<path of the layer in the text model>.lora_A.weight`, from the name under which peft stores the tensor."""
    name = stored.removeprefix(_PREFIX)
    return text_name(name) if base.vision is None else canonical_name(base.vision.encoder, name)


def _renamed(header: dict[str, TensorEntry], base: ModelInfo) -> dict[str, TensorEntry]:
    tensors: dict[str, TensorEntry] = {}
    for stored, entry in header.items():
        name = addon_tensor_name(stored, base)
        if not stored.startswith(_PREFIX):
            message = f"tensor {stored[:200]!r} is not named as peft names it, {_PREFIX}…"
            raise ModelRefused(RefusalReason.UNEXPECTED_TENSOR, message, ADDON_WEIGHTS)
        if name in tensors:
            message = f"tensor {stored[:200]!r} is there twice, under an old and a new name"
            raise ModelRefused(RefusalReason.DUPLICATE_TENSOR, message, ADDON_WEIGHTS)
        tensors[name] = entry
    return tensors


def _check_tensors(tensors: dict[str, TensorEntry], shapes: Shapes, config: AddonConfig) -> list[str]:
    """The layers that the addon adapts."""
    for name, entry in tensors.items():
        match = _TENSOR_NAME.fullmatch(name)
        if match is None:
            message = f"tensor {name[:200]!r} is none of a LoRA's two matrices for a linear layer"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ADDON, message, ADDON_WEIGHTS)
        module, matrix = match[1], match[2]
        if module not in shapes:
            message = f"{module[:200]!r} cannot be adapted: embedding, head, experts, routers and image encoders cannot"
            raise ModelRefused(RefusalReason.UNSUPPORTED_ADDON, message, ADDON_WEIGHTS)
        if not config.adapts(module):
            message = f"tensor {name!r} is of a layer that {ADDON_CONFIG} does not name"
            raise ModelRefused(RefusalReason.UNEXPECTED_TENSOR, message, ADDON_WEIGHTS)
        num_rows, num_columns = shapes[module]
        expected = (config.rank, num_columns) if matrix == "A" else (num_rows, config.rank)
        if entry.shape != expected:
            message = f"tensor {name!r} has shape {list(entry.shape)}; rank and base model call for {list(expected)}"
            raise ModelRefused(RefusalReason.WRONG_TENSOR, message, ADDON_WEIGHTS)
        if entry.dtype not in DTYPES:
            message = f"tensor {name!r} has dtype {entry.dtype}; supported are {', '.join(DTYPES)}"
            raise ModelRefused(RefusalReason.WRONG_TENSOR, message, ADDON_WEIGHTS)
    modules = [module for module in shapes if config.adapts(module)]
    for name in (f"{module}.lora_{matrix}.weight" for module in modules for matrix in "AB"):
        if name not in tensors:
            message = f"{ADDON_CONFIG} calls for the tensor {name!r}, which is missing"
            raise ModelRefused(RefusalReason.MISSING_TENSOR, message, ADDON_WEIGHTS)
    if not modules:
        message = "target_modules names no linear layer of the base model"
        raise ModelRefused(RefusalReason.INVALID_CONFIG, message, ADDON_CONFIG)
    return modules


def _summarise(
    config: AddonConfig,
    tensors: dict[str, TensorEntry],
    modules: list[str],
    files: list[str],
    file_sha256: dict[str, str],
) -> AddonInfo:
    bytes_by_dtype: Counter[str] = Counter()
    for entry in tensors.values():
        bytes_by_dtype[entry.dtype] += entry.size_bytes
    kinds = sorted({module.rpartition(".")[2] for module in modules})
    warnings = []
    if unmatched := config.unmatched(modules):
        names = ", ".join(name[:100] for name in unmatched[:3])
        warnings.append(f"{ADDON_CONFIG}: target_modules names layers that the base model has not: {names}")
    if TOKENIZER in files:
        warnings.append(f"{TOKENIZER}: the addon's own is ignored, like its chat template; the base model's are used")
    return AddonInfo(
        rank=config.rank,
        scaling=config.scaling,
        target_modules=kinds,
        dtype=DTYPES[bytes_by_dtype.most_common(1)[0][0]],
        num_parameters=sum(math.prod(entry.shape) for entry in tensors.values()),
        weight_bytes=bytes_by_dtype.total(),
        base_model=config.base_model,
        warnings=warnings,
        file_sha256=file_sha256,
    )
