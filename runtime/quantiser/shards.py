"""A safetensors checkpoint written tensor by tensor, in shards that are there whole or not at all.

The layout is planned first, so that no more than one tensor is in memory, and another attempt at the same plan goes on
after the shards that are finished. Never reads tensors.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 512 * 1024 * 1024

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3"}


class PlannedTensor(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


class Shard(NamedTuple):
    name: str
    groups: list[dict[str, PlannedTensor]]
    """Tensors that are made together stay together."""

    @property
    def num_bytes(self) -> int:
        return sum(tensor.num_bytes for group in self.groups for tensor in group.values())


def plan_shards(groups: Iterator[dict[str, PlannedTensor]], shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    gathered: list[list[dict[str, PlannedTensor]]] = []
    free_bytes = 0
    for group in groups:
        num_bytes = sum(tensor.num_bytes for tensor in group.values())
        if num_bytes > free_bytes:
            gathered.append([])
            free_bytes = shard_bytes
        gathered[-1].append(group)
        free_bytes -= num_bytes
    count = len(gathered)
    return [Shard(f"model-{i:05}-of-{count:05}.safetensors", own) for i, own in enumerate(gathered, start=1)]


def write_shard(
    directory: Path,
    shard: Shard,
    make: Callable[[dict[str, PlannedTensor]], Mapping[str, torch.Tensor]],
    tell: Callable[[int], None],
) -> None:
    """`make` is asked for each group in turn; `tell` is told of the bytes written."""
    path = directory / shard.name
    if path.exists():
        tell(shard.num_bytes)
        return
    part = directory / f"{shard.name}.part"
    with part.open("wb") as file:
        header = _header(shard)
        file.write(len(header).to_bytes(8, "little") + header)
        for group in shard.groups:
            made = make(group)
            for name, planned in group.items():
                tensor = made[name]
                assert (tensor.dtype, tuple(tensor.shape)) == planned, name
                file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
            tell(sum(planned.num_bytes for planned in group.values()))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(directory: Path, name: str, content: object) -> None:
    part = directory / f"{name}.part"
    with part.open("w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(directory / name)


def write_index(directory: Path, shards: list[Shard]) -> None:
    weight_map = {name: shard.name for shard in shards for group in shard.groups for name in group}
    total = sum(shard.num_bytes for shard in shards)
    write_json(directory, INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _header(shard: Shard) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for group in shard.groups:
        for name, planned in group.items():
            end = offset + planned.num_bytes
            entries[name] = {"dtype": DTYPES[planned.dtype], "shape": planned.shape, "data_offsets": [offset, end]}
            offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)  # data begins at a multiple of 8, which readers that map the file expect
