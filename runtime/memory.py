"""What this process really holds on its device. Measures; decides nothing."""

from pathlib import Path

import torch

_PAGE_BYTES = 4096


def footprint_bytes(device: torch.device, reserved_bytes: int) -> int:
    """Device memory in use by this process.

    On a CPU memory that was reserved and never touched is not resident yet, so `reserved_bytes` are the tensors to
    count in full: their resident part is assumed to be nought.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free
    return resident_bytes() + reserved_bytes


def resident_bytes() -> int:
    """Resident set of this process, file pages included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
