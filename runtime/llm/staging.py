"""The way of a step's numbers to its device: all of them in one copy that nobody waits for.

Owns a ring of page-locked buffers. One is written again only after the copy out of it is over, which with a ring of
three has happened long before, even when the next step is prepared while one runs. On a CPU nothing is copied.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_NUM_BUFFERS = 3
_ALIGNMENT = 16
"""Bytes: Triton would compile once more for tables that begin elsewhere."""
_BUFFER_BYTES_MIN = 2**16

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


class Place(NamedTuple):
    """Of one array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Layout:
    """Where arrays lie that share one piece of memory."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._starts: list[int] = []
        self.num_bytes = 0
        for place in places:
            self._starts.append(self.num_bytes)
            self.num_bytes += -(-place.num_bytes // _ALIGNMENT) * _ALIGNMENT

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> "Layout":
        return cls([Place(array.shape, array.dtype) for array in arrays])

    def write(self, memory: Bytes, arrays: Sequence[Array]) -> int:
        """Each to its place, which the last one need not fill. Returns the number of bytes up to its end."""
        stop = 0
        for start, array in zip(self._starts, arrays, strict=True):
            stop = start + array.nbytes
            memory[start:stop] = array.reshape(-1).view(np.uint8)
        return stop

    def views(self, memory: torch.Tensor) -> list[torch.Tensor]:
        return [
            memory[start : start + place.num_bytes].view(_TORCH_DTYPES[place.dtype]).view(place.shape)
            for start, place in zip(self._starts, self._places, strict=True)
        ]


class Staging:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers = [_Buffer(device) for _ in range(_NUM_BUFFERS)]
        self._num_sent = 0

    def bring(self, arrays: Sequence[Array]) -> list[torch.Tensor]:
        """To new tensors on the device; on a CPU these are the arrays themselves."""
        if self._device.type == "cpu":
            return [torch.from_numpy(array) for array in arrays]
        layout = Layout.of(arrays)
        memory = torch.empty(layout.num_bytes, dtype=torch.uint8, device=self._device)
        self.bring_into(memory, layout, arrays)
        return layout.views(memory)

    def bring_into(self, memory: torch.Tensor, layout: Layout, arrays: Sequence[Array]) -> None:
        """To memory on the device that others look at."""
        buffer = self._buffers[self._num_sent % _NUM_BUFFERS]
        self._num_sent += 1
        num_bytes = layout.write(buffer.take(layout.num_bytes), arrays)
        buffer.send(memory[:num_bytes])


class _Buffer:
    """Memory of the host, page-locked where the device is another."""

    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda"
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._copied = _new_event() if self._is_pinned else None

    def take(self, num_bytes: int) -> Bytes:
        """To be written; waits until what was written before is on the device."""
        if self._copied is not None:
            self._copied.synchronize()
        if self._memory.numel() < num_bytes:
            # A power of two, for page-locked memory is slow to get.
            size = max(_BUFFER_BYTES_MIN, 1 << (num_bytes - 1).bit_length())
            self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=self._is_pinned)
        array: Bytes = self._memory.numpy()
        return array

    def send(self, target: torch.Tensor) -> None:
        """As much as fits."""
        target.copy_(self._memory[: target.numel()], non_blocking=True)
        if self._copied is not None:
            self._copied.record()


def _new_event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]  # as torch has it


_TORCH_DTYPES = {np.dtype(np.int32): torch.int32, np.dtype(np.int64): torch.int64}
