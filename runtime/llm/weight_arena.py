"""Where the parameters of a model lie in one block of device memory, decided from the headers of its files alone.

Parameters that are multiplied together follow one another without a gap, so that their product is a view and no copy.
All others begin at ALIGNMENT bytes, in the order of the files, so that neighbours travel together. Parameters that
are tied are one. Reads no weights and knows nothing of modules or devices.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from runtime.llm.checkpoint import Checkpoint, FileTensor

ALIGNMENT = 256
"""Bytes. What a GPU likes to read at once, and more than any dtype needs."""


class Wanted(NamedTuple):
    """A parameter to be."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stored: tuple[str, ...]
    """Tensors of the checkpoint whose rows follow one another in it; of equal size."""

    @property
    def size_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Extent(NamedTuple):
    """A tensor inside the arena."""

    offset: int
    """In bytes."""
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def view(self, arena: torch.Tensor) -> torch.Tensor:
        return arena[self.offset : self.offset + self.size_bytes].view(self.dtype).view(self.shape)


class Move(NamedTuple):
    """A stored tensor, and the part of the arena that it fills, in the arena's dtype."""

    name: str
    source: FileTensor
    target: Extent


class ArenaPlan(NamedTuple):
    size_bytes: int
    extents: dict[str, Extent]
    """By parameter."""
    moves: list[Move]
    """In the order of the files."""


def plan_arena(
    wanted: Mapping[str, Wanted], checkpoint: Checkpoint, merged: Iterable[tuple[str, ...]] = ()
) -> ArenaPlan:
    """`merged`: names of layers beside one another in a module tree, whose products are to be one."""
    groups = sorted(_groups(wanted, merged), key=lambda group: _file_position(checkpoint, wanted[group[0]]))
    extents: dict[str, Extent] = {}
    known: dict[Wanted, Extent] = {}
    moves: list[Move] = []
    end = 0
    for group in groups:
        if all(wanted[name] in known for name in group):  # tied to another
            extents.update({name: known[wanted[name]] for name in group})
            continue
        end = -(-end // ALIGNMENT) * ALIGNMENT
        for name in group:
            each = wanted[name]
            extents[name] = known[each] = Extent(end, each.shape, each.dtype)
            moves += _moves(each, extents[name], checkpoint)
            end += each.size_bytes
    return ArenaPlan(end, extents, sorted(moves, key=lambda move: _position(move.source)))


def _groups(wanted: Mapping[str, Wanted], merged: Iterable[tuple[str, ...]]) -> list[list[str]]:
    """Each parameter once, alone or among those that it is merged with."""
    groups = {name: [name] for name in wanted}
    for layers in merged:
        for part in ("weight", "bias"):
            first, *others = [f".{layer}.{part}" for layer in layers]
            for name in wanted:
                group = [name, *(name.removesuffix(first) + other for other in others)]
                if name.endswith(first) and _can_be_merged([wanted.get(member) for member in group]):
                    groups.update(dict.fromkeys(group, group))
    return [group for name, group in groups.items() if group[0] == name]


def _can_be_merged(members: list[Wanted | None]) -> bool:
    """Rows of equal length and dtype."""
    kinds = {None if member is None else (member.dtype, member.shape[1:]) for member in members}
    return len(kinds) == 1 and None not in kinds


def _moves(wanted: Wanted, extent: Extent, checkpoint: Checkpoint) -> Iterable[Move]:
    offset = extent.offset
    for name in wanted.stored:
        source = checkpoint.locate(name)
        target = Extent(offset, source.shape, extent.dtype)
        yield Move(name, source, target)
        offset += target.size_bytes
    assert offset == extent.offset + extent.size_bytes, wanted.stored


def _file_position(checkpoint: Checkpoint, wanted: Wanted) -> tuple[int, int]:
    return _position(checkpoint.locate(wanted.stored[0]))


def _position(source: FileTensor) -> tuple[int, int]:
    return source.file.descriptor, source.offset
