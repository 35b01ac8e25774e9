"""A language model's checkpoint in the layout of FP8 rows: weights of products in layers, each row with its scale.

Calibration-free: only the weights decide. What no product of 8-bit floats would read stays as it is, so that nothing
is lost where nothing is gained. Writes weights, their index and config.json; other files are the caller's.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from models.architectures import read_decoder_config
from models.fp8 import is_quantisable, quantization_config, scale_name, stays_fp8
from models.llm_folder import inspect_llm
from models.refusal import CONFIG, ModelRefused, RefusalReason
from models.vision import text_config
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.fp8 import FP8, quantise_rows
from runtime.quantiser.shards import SHARD_BYTES, PlannedTensor, plan_shards, write_index, write_json, write_shard

Tell = Callable[[int, int], None]
"""Told how many bytes are written, of how many."""

_CHUNK_NUMBERS = 2**24
"""Of a weight that are float32 at the same time."""


def quantise(
    source: Path, file_sha256: Mapping[str, str], target: Path, tell: Tell, shard_bytes: int = SHARD_BYTES
) -> None:
    """Go on with what an earlier attempt left in `target`; raises ModelRefused."""
    info = inspect_llm(source, known_sha256=file_sha256)
    if info.vision is not None:
        raise _refusal("a model that reads images is not quantised")
    if info.fp8 is not None:
        raise _refusal("its weights are quantised already")
    checkpoint = Checkpoint.of_model(source, info)
    raw_config = json.loads((source / CONFIG).read_bytes())
    shapes = read_decoder_config(text_config(raw_config)).tensors
    quantised = {
        name for name, shape in shapes.items() if is_quantisable(name, shape) and stays_fp8("row", name, shape)
    }
    if not quantised:
        raise _refusal("it has no weights that could be multiplied as 8-bit floats")

    shards = plan_shards(_plan(checkpoint, shapes, quantised), shard_bytes)
    total_bytes, num_bytes = sum(shard.num_bytes for shard in shards), 0

    def tell_more(more: int) -> None:
        nonlocal num_bytes
        num_bytes += more
        tell(num_bytes, total_bytes)

    for shard in shards:
        write_shard(target, shard, lambda group: _make(checkpoint, group), tell_more)
    write_index(target, shards)
    weights = [name for name, shape in shapes.items() if len(shape) == 2 and name not in quantised]
    ignored = sorted({"lm_head", *(name.removesuffix(".weight") for name in weights)})
    write_json(target, CONFIG, raw_config | {"quantization_config": quantization_config(ignored)})


def quantise_weight(name: str, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `quantise_rows`, some rows at a time. Raises ModelRefused for numbers that no float of 8 bits is near to."""
    rows, columns = weight.shape
    stored, scale = torch.empty(rows, columns, dtype=FP8), torch.empty(rows, 1)
    step = max(1, _CHUNK_NUMBERS // columns)
    for start in range(0, rows, step):
        chunk = slice(start, start + step)
        stored[chunk], scale[chunk] = quantise_rows(weight[chunk])
    if not scale.isfinite().all():
        raise _refusal(f"the tensor {name!r} holds numbers that are not finite")
    return stored, scale


def _plan(
    checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], quantised: set[str]
) -> Iterator[dict[str, PlannedTensor]]:
    for name, shape in shapes.items():
        if name in quantised:
            yield {
                name: PlannedTensor(FP8, shape),
                scale_name("row", name): PlannedTensor(torch.float32, (shape[0], 1)),
            }
        else:
            yield {name: PlannedTensor(checkpoint.locate(name).dtype, shape)}


def _make(checkpoint: Checkpoint, group: dict[str, PlannedTensor]) -> dict[str, torch.Tensor]:
    name, *scales = group
    stored = checkpoint.tensor(name)
    made = dict(zip(group, quantise_weight(name, stored), strict=True)) if scales else {name: stored.clone()}
    checkpoint.drop_pages(stored)
    return made


def _refusal(message: str) -> ModelRefused:
    return ModelRefused(RefusalReason.UNSUPPORTED_QUANTIZATION, message)
