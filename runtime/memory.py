"""What this process really holds on its device, and giving back what it holds for nothing. Decides nothing."""

import ctypes
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from models.sizing import CUDA_PROCESS_BYTES

if TYPE_CHECKING:
    import torch

_PAGE_BYTES = 4096
_libc = ctypes.CDLL(None)


def footprint_bytes(device: "torch.device", reserved_bytes: int) -> int:
    """Device memory in use by this process.

    On a CPU memory that was reserved and never touched is not resident yet, so `reserved_bytes` are the tensors to
    count in full: their resident part is assumed to be nought.
    """
    if device.type == "cuda":
        import torch  # engines that do without it ask for `resident_bytes` only

        # The driver tells only what all processes of the device hold together; a context cannot be seen from within.
        return torch.cuda.memory_reserved(device) + CUDA_PROCESS_BYTES
    return resident_bytes() + reserved_bytes


def resident_bytes() -> int:
    """Resident set of this process, file pages included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def discard_pages(tensor: "torch.Tensor") -> None:
    """Give back what a tensor of ours holds and nobody will read again, while its neighbours in a larger one stay."""
    first = -(-tensor.data_ptr() // _PAGE_BYTES) * _PAGE_BYTES
    num_pages = (tensor.data_ptr() + tensor.nbytes - first) // _PAGE_BYTES
    if num_pages > 0:
        _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(num_pages * _PAGE_BYTES), mmap.MADV_DONTNEED)


def return_freed_memory() -> None:
    """What the C library keeps of freed memory for later goes back to the system now."""
    _libc.malloc_trim(0)
