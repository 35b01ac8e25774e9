"""Memory in huge pages, for what is read from end to end again and again: a processor finds 2 MB as fast as 4 KB."""

import mmap

import torch

_HUGE_PAGE_BYTES = 2**21
_REGION_BYTES = 2**28
"""Reserved at a time; what nobody has written is not in memory."""
_ALIGNMENT = 64


class HugePages:
    """Pieces side by side; a region goes with the last piece of it. The kernel may have no huge pages to give."""

    def __init__(self) -> None:
        self._region = torch.empty(0, dtype=torch.uint8)
        self._num_taken = 0

    def take(self, num_bytes: int) -> torch.Tensor:
        """All zero."""
        num_bytes = -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        if self._num_taken + num_bytes > len(self._region):
            self._region, self._num_taken = _reserve(max(num_bytes, _REGION_BYTES)), 0
        piece = self._region[self._num_taken : self._num_taken + num_bytes]
        self._num_taken += num_bytes
        return piece


def _reserve(num_bytes: int) -> torch.Tensor:
    """From where a huge page begins."""
    memory = mmap.mmap(-1, num_bytes + _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    return whole[-whole.data_ptr() % _HUGE_PAGE_BYTES :][:num_bytes]
