"""Adapters side by side in memory of fixed size and place, where kernels, and the graphs of CUDA, find them by slot.

For each linear layer one tensor holds what narrows, another what widens, of all slots; whatever lies in a slot beyond
its adapter's rank is never read. Slots are filled by the thread that loads adapters, while steps go on.
"""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import torch

from runtime.engine import LoadRefused
from runtime.llm.adapters.adapter import LoraAdapter, LowRankChange
from runtime.llm.adapters.places import Place
from runtime.llm.linear import Linear
from runtime.message import FailureCode

_FREE_S = 5.0
"""An adapter's slot is free a moment after the shelf has seen that nobody has it any more."""


class LoraStack(NamedTuple):
    """All slots of one linear layer."""

    narrowing: torch.Tensor
    """[slots, parts, largest rank, inputs]; parts are layers of the checkpoint that are computed as one."""
    widening: torch.Tensor
    """[slots, largest rank, outputs]: each part's own columns."""
    ranks: torch.Tensor
    """int32 [slots, parts]; 0 where the adapter leaves the part as it is."""
    tiles: torch.Tensor
    """int32 [tiles, 3]: the part, the first column of the output, the column to stop before."""

    @property
    def num_slots(self) -> int:
        return self.narrowing.shape[0]

    @property
    def num_parts(self) -> int:
        return self.narrowing.shape[1]

    @property
    def rank_max(self) -> int:
        return self.narrowing.shape[2]

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self)


class Groups(NamedTuple):
    """Of one step, on the device."""

    items: torch.Tensor
    tokens: torch.Tensor
    partials: torch.Tensor
    """float32, for whatever the kernel wants to keep."""


class LoraKernels(Protocol):
    def add(self, outputs: torch.Tensor, inputs: torch.Tensor, stack: LoraStack, groups: Groups) -> None:
        """To the rows that are in `groups`; both are [tokens, …], and outputs contiguous."""

    def num_partials(self, stack: LoraStack, num_tokens_max: int) -> int:
        """Floats that `add` keeps for a batch of up to so many tokens."""


class SlottedAdapter:
    """An adapter in its slot, until nobody has this object any more."""

    def __init__(self, slot: int, adapter: LoraAdapter) -> None:
        self.slot = slot
        self.file_sha256 = adapter.file_sha256
        self.digest = adapter.digest


class AdapterStacks:
    def __init__(
        self,
        places: Mapping[str, Place],
        shapes: Mapping[str, tuple[int, int]],
        *,
        num_slots: int,
        rank_max: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`shapes`: rows and columns of the layers in `places`."""
        self.num_slots = num_slots
        self._device = device
        self._starts: dict[Linear, list[int]] = {}
        """Of each part, the first of its columns."""
        self.by_linear: dict[Linear, LoraStack] = {}
        parts: dict[Linear, list[Place]] = {}
        num_inputs: dict[Linear, int] = {}
        for path, place in places.items():
            parts.setdefault(place.linear, []).append(place)
            num_inputs[place.linear] = shapes[path][1]
        for linear, own in parts.items():
            num_outputs = sum(linear.output_sizes)
            self._starts[linear] = [place.start for place in own]
            self.by_linear[linear] = LoraStack(
                torch.empty(num_slots, len(own), rank_max, num_inputs[linear], dtype=dtype, device=device),
                torch.empty(num_slots, rank_max, num_outputs, dtype=dtype, device=device),
                torch.zeros(num_slots, len(own), dtype=torch.int32, device=device),
                torch.tensor(_tiles(own, columns_at_once(dtype)), dtype=torch.int32, device=device),
            )
        self._free: SimpleQueue[int] = SimpleQueue()
        for slot in range(num_slots):
            self._free.put(slot)

    @property
    def size_bytes(self) -> int:
        return sum(stack.size_bytes for stack in self.by_linear.values())

    def place(self, adapter: LoraAdapter) -> SlottedAdapter:
        """Copy an adapter, wherever it is, into a slot; it is there when this returns."""
        try:
            slot = self._free.get(timeout=_FREE_S)
        except Empty:
            raise LoadRefused("every place for an addon is taken", FailureCode.OVERLOADED) from None
        placed = SlottedAdapter(slot, adapter)
        weakref.finalize(placed, self._free.put, slot)
        with self._beside_steps():
            for linear, stack in self.by_linear.items():
                self._fill(stack, slot, self._starts[linear], adapter.changes.get(linear))
        return placed

    def _fill(self, stack: LoraStack, slot: int, starts: list[int], change: LowRankChange | None) -> None:
        ranks = torch.zeros(stack.num_parts, dtype=torch.int32)
        first = 0
        for widening in [] if change is None else change.widenings:
            assert change is not None
            part, rank = starts.index(widening.start), len(widening.matrix)
            stack.narrowing[slot, part, :rank].copy_(change.narrowing[first : first + rank])
            stack.widening[slot, :rank, widening.start : widening.stop].copy_(widening.matrix)
            ranks[part] = rank
            first += rank
        stack.ranks[slot].copy_(ranks)

    @contextmanager
    def _beside_steps(self) -> Iterator[None]:
        """No step waits for what is copied here, and steps that may still read the slot's last adapter come first."""
        if self._device.type != "cuda":
            yield
            return
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch's
        stream.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()


def columns_at_once(dtype: torch.dtype) -> int:
    """Of an output, that one program of a kernel widens to: nothing but registers multiplies float32 exactly."""
    return 128 if dtype.itemsize == 2 else 32


def _tiles(parts: list[Place], num_columns: int) -> list[tuple[int, int, int]]:
    return [
        (part, column, min(column + num_columns, place.stop))
        for part, place in enumerate(parts)
        for column in range(place.start, place.stop, num_columns)
    ]
