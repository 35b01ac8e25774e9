"""Small tables on their way between host and device, with nobody waiting for them before they are read.

A copy that is not from or to page-locked memory makes the host wait until the device has done all that it was given;
torch keeps such memory for later, and gives it away again only after the copy. Never used for weights or KV.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def to_device(table: NDArray[Any], device: torch.device) -> torch.Tensor:
    """The same values; on a CPU the same memory."""
    staged = torch.from_numpy(table)
    return staged if device.type == "cpu" else staged.pin_memory().to(device, non_blocking=True)


def indices_on(device: torch.device, indices: Sequence[int]) -> torch.Tensor:
    return to_device(np.array(indices, dtype=np.int64), device)


class Arrival:
    """Tensors of the device on their way to the host, behind all that it was given before this was made."""

    def __init__(self, tensors: Sequence[torch.Tensor], device: torch.device) -> None:
        self._copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # of torch's stubs
            self._event.record()

    def wait(self) -> list[torch.Tensor]:
        """Until they are there, and all before them is done; not for what the device was given later."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies
