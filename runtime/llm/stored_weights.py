"""Weights on their way from a checkpoint to the device: converted to the dtype that is served, quantised ones too.

One tensor at a time: what was read is given back before the next. Knows nothing of modules.
"""

from typing import NamedTuple

import torch

from models import fp8
from models.info import ModelInfo
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.fp8 import FP8, rescale

_SMALLEST_VIEW_BYTES = 64 * 1024
"""Smaller tensors, norms in earnest, are copied from the file: recent kernels map two megabytes around each."""


class QuantisedWeight(NamedTuple):
    stored: torch.Tensor
    scale: torch.Tensor
    """float32 [rows, 1]."""


def stays_fp8(checkpoint: Checkpoint, name: str, info: ModelInfo) -> bool:
    """Whether a weight can be multiplied as it is stored."""
    if info.fp8 is None:
        return False
    located = checkpoint.locate(name)
    return located.dtype is FP8 and fp8.stays_fp8(info.fp8.layout, name, located.shape)


def read_fp8(checkpoint: Checkpoint, name: str, device: torch.device) -> QuantisedWeight:
    """A weight as it is stored; its rows have scales."""
    return QuantisedWeight(_moved(checkpoint, name, FP8, device), read_scale(checkpoint, name, device))


def read_scale(checkpoint: Checkpoint, name: str, device: torch.device) -> torch.Tensor:
    """Of the rows of a weight that stays as it is stored: float32 [rows, 1]."""
    return checkpoint.tensor(fp8.scale_name("row", name)).to(device, torch.float32).view(-1, 1)


def read_weight(
    checkpoint: Checkpoint, name: str, info: ModelInfo, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """A view of the file where size, dtype and device allow, else a copy."""
    return rescale_in_place(checkpoint, name, info, _moved(checkpoint, name, dtype, device))


def read_into(checkpoint: Checkpoint, name: str, info: ModelInfo, target: torch.Tensor) -> None:
    """Fill a tensor of the same shape."""
    stored = checkpoint.tensor(name)
    assert stored.shape == target.shape, name
    target.copy_(stored)
    checkpoint.drop_pages(stored)
    rescale_in_place(checkpoint, name, info, target)


def rescale_in_place(checkpoint: Checkpoint, name: str, info: ModelInfo, numbers: torch.Tensor) -> torch.Tensor:
    """What was stored under this name, converted, becomes what it stands for; that is itself unless it is quantised."""
    if info.fp8 is None or checkpoint.locate(name).dtype is not FP8:
        return numbers
    scale = checkpoint.tensor(fp8.scale_name(info.fp8.layout, name))
    return rescale(info.fp8.layout, numbers, scale.to(numbers.device))


def _moved(checkpoint: Checkpoint, name: str, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    stored = checkpoint.tensor(name)
    tensor = stored.to(device=device, dtype=dtype, copy=stored.nbytes < _SMALLEST_VIEW_BYTES)
    if tensor.data_ptr() != stored.data_ptr():
        checkpoint.drop_pages(stored)
    return tensor
