"""What a model in torch holds of its device, and how it is given back for a while: weights, and a language model's KV.

KV pools and kept image features are simply dropped, for nobody needs what was in them. Weights move to host memory;
where the host is the device they stay. A storage that was parked is emptied in place and filled again, so that every
tensor which looks at it is valid after `wake` without anybody knowing who keeps it. Knows nothing of requests.
"""

import gc
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Protocol

import torch

from runtime.memory import resident_bytes, return_freed_memory

_SMALLEST_PIECE_BYTES = 1024 * 1024


class Pool(Protocol):
    """Memory whose content nobody needs after a rest; a back end of attention in earnest."""

    def release(self) -> None: ...

    def allocate(self) -> None: ...


class Kept(Protocol):
    """What is only kept to save work; image features in earnest."""

    def clear(self) -> None: ...


class DeviceMemory:
    def __init__(self, device: torch.device, pools: Sequence[Pool] = (), kept: Kept | None = None) -> None:
        self._device = device
        self._pools = pools
        self._kept = kept
        self._parked: ParkedWeights | None = None

    def sleep(self) -> int:
        """Returns what this process still holds of the host's memory."""
        for pool in self._pools:
            pool.release()
        if self._kept is not None:
            self._kept.clear()
        if self._device.type != "cpu":
            self._parked = ParkedWeights(storages_on(self._device), self._device)
        _return_unused(self._device)
        return resident_bytes()

    def wake(self) -> dict[str, float]:
        """Returns milliseconds by stage. Raises torch.OutOfMemoryError when somebody else has the memory."""
        began_at = perf_counter()
        if self._parked is not None:
            self._parked.restore()
            self._parked = None
            _return_unused(self._device)
        weights_at = perf_counter()
        for pool in self._pools:
            pool.allocate()
        return {"weights": (weights_at - began_at) * 1000, "kv-cache": (perf_counter() - weights_at) * 1000}


class ParkedWeights:
    """The bytes of these storages in host memory; the storages themselves hold nothing until `restore`.

    A language model's weights are one storage, so that there are about as many copies as its size has binary digits.
    """

    def __init__(self, storages: Iterable[torch.UntypedStorage], device: torch.device) -> None:
        self._device = device
        self._storages = [(storage, storage.nbytes()) for storage in storages]
        self._copies: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Pieces on the device, and where they are parked."""
        free = _host_memory(sum(num_bytes for _, num_bytes in self._storages), device)
        for storage, _ in self._storages:
            rest = torch.empty(0, dtype=torch.uint8, device=device).set_(storage)
            while rest.numel():
                num_bytes = min(rest.numel(), free[-1].numel())
                self._copies.append((rest[:num_bytes], free[-1][:num_bytes]))
                rest, room = rest[num_bytes:], free.pop()[num_bytes:]
                if room.numel():
                    free.append(room)
        self._copy(is_coming_back=False)
        for storage, _ in self._storages:
            storage.resize_(0)

    def restore(self) -> None:
        """Every tensor over these storages is as it was."""
        for storage, num_bytes in self._storages:
            storage.resize_(num_bytes)
        self._copy(is_coming_back=True)
        self._storages, self._copies = [], []

    def _copy(self, *, is_coming_back: bool) -> None:
        for piece, parked in self._copies:
            if is_coming_back:
                piece.copy_(parked, non_blocking=True)
            else:
                parked.copy_(piece, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _host_memory(num_bytes: int, device: torch.device) -> list[torch.Tensor]:
    """Together at least so large, the largest last. On CUDA it is page-locked, for then copies are twice as fast; torch
    rounds such memory up to a power of two, which these pieces are already."""
    num_units = -(-num_bytes // _SMALLEST_PIECE_BYTES)
    sizes = [_SMALLEST_PIECE_BYTES << digit for digit in range(num_units.bit_length()) if num_units >> digit & 1]
    return [torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda") for size in sizes]


def storages_on(device: torch.device) -> list[torch.UntypedStorage]:
    """Each storage on the device that any tensor of this process looks at, once: weights, buffers, adapters.

    Nobody has to be asked, and nothing that is added to a model later can be forgotten.
    """
    found: dict[int, torch.UntypedStorage] = {}
    for candidate in gc.get_objects():
        if issubclass(type(candidate), torch.Tensor) and candidate.device.type == device.type:
            storage = candidate.untyped_storage()
            if storage.nbytes():
                found[storage._cdata] = storage
    return list(found.values())


def _return_unused(device: torch.device) -> None:
    """What allocators keep for later goes back to the system now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.accelerator.empty_host_cache()
    return_freed_memory()
