"""Weights in a model's folder: one safetensors file or an index and its shards, compared with what the config needs.

Headers only; tensor data is hashed, never interpreted.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import BinaryIO, NamedTuple

import msgspec

from models.architectures import DecoderConfig
from models.decoder import Tensors
from models.folder import ModelFolder
from models.fp8 import (
    FP8_DTYPE,
    SCALE_DTYPES,
    activation_scale_name,
    describe_fp8,
    is_quantisable,
    scale_name,
    scale_shapes,
)
from models.info import Fp8Info, Fp8Layout
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.safetensors_header import TensorEntry, read_header
from models.text_halves import text_name
from models.vision import VisionHalf
from models.vision_tensors import IGNORED_TENSORS, canonical_name

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Served dtypes: safetensors name to torch name."""

_INDEX_BYTES_MAX = 64 * 1024 * 1024
_INDEX_VALUES_MAX = 1_000_000
_COMPARE_BYTES = 4 * 1024 * 1024
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")


class StoredTensor(NamedTuple):
    file: str
    entry: TensorEntry


class Checkpoint(NamedTuple):
    tensors: dict[str, StoredTensor]
    """Exactly those that the architecture consists of."""
    warnings: list[str]
    scales: dict[str, StoredTensor] = {}
    """Of those that are quantised, by their own names."""
    fp8: Fp8Info | None = None


def read_checkpoint(
    folder: ModelFolder, files: list[str], config: DecoderConfig, vision: VisionHalf | None = None
) -> Checkpoint:
    """Check every header and hash every file; raises ModelRefused unless exactly the expected tensors are there."""
    stored = read_shards(folder, files)
    if vision is not None:
        config = _with_vision(config, vision)
        stored = _renamed(stored, partial(canonical_name, vision.info.encoder))
    else:
        stored = _renamed(stored, text_name)
    weights = WEIGHTS_INDEX if WEIGHTS_INDEX in files else WEIGHTS
    quantised = _find_quantised(config, stored)
    scales = {} if config.fp8_layout is None else _take_scales(config.fp8_layout, quantised, stored, weights)
    warnings = _drop_repeated_head(folder, config, stored) + _drop_extra(config, stored)
    require_tensors(config.name, config.tensors, stored, weights, quantised)
    fp8 = describe_fp8(config.fp8_layout, quantised) if config.fp8_layout is not None and quantised else None
    return Checkpoint(stored, warnings, scales, fp8)


def read_shards(
    folder: ModelFolder, files: list[str], weights: str = WEIGHTS, index: str = WEIGHTS_INDEX
) -> dict[str, StoredTensor]:
    """All tensors of one file, or of the shards that an index beside it names; every file of them is hashed."""
    weight_map = _read_weight_map(folder, files, weights, index) if index in files else None
    stored: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())) if weight_map else [weights]:
        with folder.open(shard) as file:
            for name, entry in read_header(file, shard).items():
                if name in stored:
                    message = f"tensor {name[:200]!r} is also in {stored[name].file}"
                    raise ModelRefused(RefusalReason.DUPLICATE_TENSOR, message, shard)
                stored[name] = StoredTensor(shard, entry)
            folder.hash(shard, file)
    if weight_map is not None:
        _check_weight_map(weight_map, stored, index)
    return stored


def require_tensors(
    architecture: str,
    expected: Tensors,
    stored: Mapping[str, StoredTensor],
    weights: str,
    quantised: Collection[str] = (),
) -> None:
    """Raises ModelRefused unless all are there, in these shapes and, but for quantised ones, a dtype that is served."""
    for name, shape in expected.items():
        if name not in stored:
            message = f"{architecture} needs the tensor {name!r}, which is missing"
            raise ModelRefused(RefusalReason.MISSING_TENSOR, message, weights)
        file, entry = stored[name]
        if entry.shape != shape:
            message = f"tensor {name!r} has shape {list(entry.shape)}, but {CONFIG} calls for {list(shape)}"
            raise ModelRefused(RefusalReason.WRONG_TENSOR, message, file)
        if name not in quantised:
            require_dtype(name, file, entry)


def require_dtype(name: str, file: str, entry: TensorEntry) -> None:
    if entry.dtype not in DTYPES:
        message = f"tensor {name!r} has dtype {entry.dtype}; supported are {', '.join(DTYPES)}"
        raise ModelRefused(RefusalReason.WRONG_TENSOR, message, file)


def most_common_dtype(stored: Iterable[StoredTensor]) -> str:
    """Of most bytes, by torch's name; quantised ones do not count."""
    bytes_by_dtype = dict.fromkeys(DTYPES, 0)
    for _, entry in stored:
        if entry.dtype != FP8_DTYPE:
            bytes_by_dtype[entry.dtype] += entry.size_bytes
    return DTYPES[max(bytes_by_dtype, key=lambda dtype: bytes_by_dtype[dtype])]


def _with_vision(config: DecoderConfig, vision: VisionHalf) -> DecoderConfig:
    """Both halves as one architecture."""
    return config._replace(
        name=vision.architecture,
        tensors=config.tensors | vision.tensors,
        ignored_tensors=f"{config.ignored_tensors}|{IGNORED_TENSORS}",
    )


def _renamed(stored: dict[str, StoredTensor], rename: Callable[[str], str]) -> dict[str, StoredTensor]:
    renamed: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        canonical = rename(name)
        if canonical in renamed:
            message = f"tensor {name[:200]!r} is there twice, under an old and a new name"
            raise ModelRefused(RefusalReason.DUPLICATE_TENSOR, message, tensor.file)
        renamed[canonical] = tensor
    return renamed


def _find_quantised(config: DecoderConfig, stored: Mapping[str, StoredTensor]) -> Tensors:
    """The weights that are stored in 8-bit floats, where the config says that some may be."""
    if config.fp8_layout is None:
        return {}
    return {
        name: shape
        for name, shape in config.tensors.items()
        if is_quantisable(name, shape) and name in stored and stored[name].entry.dtype == FP8_DTYPE
    }


def _take_scales(
    layout: Fp8Layout, quantised: Tensors, stored: dict[str, StoredTensor], weights: str
) -> dict[str, StoredTensor]:
    """Out of all that is stored, those of the quantised weights; each must be there and fit."""
    scales: dict[str, StoredTensor] = {}
    for weight, shape in quantised.items():
        name = scale_name(layout, weight)
        if name not in stored:
            message = f"{weight!r} is quantised, but {name!r} is missing"
            raise ModelRefused(RefusalReason.MISSING_TENSOR, message, weights)
        file, entry = scales[name] = stored.pop(name)
        if entry.shape not in scale_shapes(layout, shape) or entry.dtype not in SCALE_DTYPES:
            message = f"tensor {name!r} of {list(entry.shape)} {entry.dtype} does not scale {weight!r} of {list(shape)}"
            raise ModelRefused(RefusalReason.WRONG_TENSOR, message, file)
        stored.pop(activation_scale_name(weight), None)
    return scales


def _read_weight_map(folder: ModelFolder, files: list[str], weights: str, index: str) -> dict[str, str]:
    """By tensor, the file it is in, as named in the whole folder."""
    if weights in files:
        message = f"stands beside {weights}: it is not clear which of the two is the model"
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, index)
    content = folder.read_json(index, bytes_max=_INDEX_BYTES_MAX, values_max=_INDEX_VALUES_MAX)
    try:
        weight_map = msgspec.convert(content.get("weight_map"), dict[str, str])
    except msgspec.ValidationError as error:
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, f"weight_map: {error}", index) from error
    if not weight_map:
        raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, "weight_map is empty", index)
    for shard in set(weight_map.values()):
        if not _SHARD_NAME.fullmatch(shard):
            message = f"{shard[:100]!r} does not name a safetensors file inside the folder"
            raise ModelRefused(RefusalReason.UNSAFE_FILE, message, index)
    component, slash, _ = index.rpartition("/")
    return {name: f"{component}{slash}{shard}" for name, shard in weight_map.items()}


def _check_weight_map(weight_map: dict[str, str], stored: dict[str, StoredTensor], index: str) -> None:
    for name in sorted(weight_map.keys() | stored.keys()):
        announced, found = weight_map.get(name), stored[name].file if name in stored else None
        if announced != found:
            message = f"places tensor {name[:200]!r} in {announced or 'no file'}, but it is in {found or 'no file'}"
            raise ModelRefused(RefusalReason.CORRUPT_WEIGHTS, message, index)


def _drop_repeated_head(folder: ModelFolder, config: DecoderConfig, stored: dict[str, StoredTensor]) -> list[str]:
    """A head stored beside tied embeddings must be the same bytes; otherwise one of the two statements is wrong."""
    if not config.tied_embeddings or config.head not in stored:
        return []
    head, embedding = stored.pop(config.head), stored.get(config.embedding)
    if embedding is None or not _is_same_tensor(folder, head, embedding):
        message = f"{config.head} differs from the embedding although {CONFIG} ties the two"
        raise ModelRefused(RefusalReason.UNEXPECTED_TENSOR, message, head.file)
    return [f"{head.file}: {config.head} repeats the tied embedding and is ignored"]


def _is_same_tensor(folder: ModelFolder, one: StoredTensor, other: StoredTensor) -> bool:
    if (one.entry.shape, one.entry.dtype) != (other.entry.shape, other.entry.dtype):
        return False
    with folder.open(one.file) as one_file, folder.open(other.file) as other_file:
        one_file.seek(one.entry.offset)
        other_file.seek(other.entry.offset)
        return _has_same_bytes(one_file, other_file, one.entry.size_bytes)


def _has_same_bytes(one: BinaryIO, other: BinaryIO, size_bytes: int) -> bool:
    for begin in range(0, size_bytes, _COMPARE_BYTES):
        size = min(_COMPARE_BYTES, size_bytes - begin)
        if one.read(size) != other.read(size):
            return False
    return True


def _drop_extra(config: DecoderConfig, stored: dict[str, StoredTensor]) -> list[str]:
    extra = sorted(stored.keys() - config.tensors.keys())
    for name in extra:
        if not re.fullmatch(config.ignored_tensors, name):
            message = f"tensor {name[:200]!r} is no part of {config.name} as {CONFIG} describes it"
            raise ModelRefused(RefusalReason.UNEXPECTED_TENSOR, message, stored[name].file)
        del stored[name]
    more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
    return [f"{extra[0]}{more}: tensors that are computed or not served are ignored"] if extra else []
