"""Weights on their way from a checkpoint to the device: converted to the dtype that is served, quantised ones too.

One tensor at a time: what was read is given back before the next. With a cut a part of it is read, and nothing else
is copied. Knows nothing of modules.
"""

from typing import NamedTuple

import torch

from models import fp8
from models.info import ModelInfo
from runtime.llm.checkpoint import Checkpoint
from runtime.llm.fp8 import FP8, rescale
from runtime.llm.parallel.cut import Cut

_SMALLEST_VIEW_BYTES = 64 * 1024
"""Smaller tensors, norms in earnest, are copied from the file: recent kernels map two megabytes around each."""


class QuantisedWeight(NamedTuple):
    stored: torch.Tensor
    scale: torch.Tensor
    """float32 [rows, 1]."""


def stays_fp8(checkpoint: Checkpoint, name: str, info: ModelInfo, shape: tuple[int, ...]) -> bool:
    """Whether a weight can be multiplied as it is stored; `shape` is that of the part which is read."""
    if info.fp8 is None:
        return False
    return checkpoint.locate(name).dtype is FP8 and fp8.stays_fp8(info.fp8.layout, name, shape)


def read_fp8(checkpoint: Checkpoint, name: str, device: torch.device, cut: Cut | None = None) -> QuantisedWeight:
    """A weight as it is stored; its rows have scales."""
    return QuantisedWeight(_moved(checkpoint, name, FP8, device, cut), read_scale(checkpoint, name, device, cut))


def read_scale(checkpoint: Checkpoint, name: str, device: torch.device, cut: Cut | None = None) -> torch.Tensor:
    """Of the rows of a weight that stays as it is stored: float32 [rows, 1]."""
    return _row_scales(checkpoint.tensor(fp8.scale_name("row", name)), cut).to(device, torch.float32)


def read_weight(
    checkpoint: Checkpoint,
    name: str,
    info: ModelInfo,
    dtype: torch.dtype,
    device: torch.device,
    cut: Cut | None = None,
) -> torch.Tensor:
    """A view of the file where size, dtype and device allow, else a copy."""
    if cut is not None and _has_block_scales(checkpoint, name, info):
        # A cut may go through blocks, so the whole weight becomes numbers first.
        whole = read_weight(checkpoint, name, info, dtype, torch.device("cpu"))
        return cut.of(whole).to(device).contiguous()
    return rescale_in_place(checkpoint, name, info, _moved(checkpoint, name, dtype, device, cut), cut)


def read_into(checkpoint: Checkpoint, name: str, info: ModelInfo, target: torch.Tensor, cut: Cut | None = None) -> None:
    """Fill a tensor of the same shape."""
    if cut is not None and _has_block_scales(checkpoint, name, info):
        target.copy_(read_weight(checkpoint, name, info, target.dtype, target.device, cut))
        return
    stored = checkpoint.tensor(name)
    wanted = stored if cut is None else cut.of(stored)
    assert wanted.shape == target.shape, name
    target.copy_(wanted)
    checkpoint.drop_pages(stored)
    rescale_in_place(checkpoint, name, info, target, cut)


def rescale_in_place(
    checkpoint: Checkpoint, name: str, info: ModelInfo, numbers: torch.Tensor, cut: Cut | None = None
) -> torch.Tensor:
    """What was stored under this name, converted, becomes what it stands for; that is itself unless it is quantised."""
    if info.fp8 is None or checkpoint.locate(name).dtype is not FP8:
        return numbers
    scale = checkpoint.tensor(fp8.scale_name(info.fp8.layout, name))
    if info.fp8.layout == "row":
        scale = _row_scales(scale, cut)
    return rescale(info.fp8.layout, numbers, scale.to(numbers.device))


def _has_block_scales(checkpoint: Checkpoint, name: str, info: ModelInfo) -> bool:
    return info.fp8 is not None and info.fp8.layout == "block" and checkpoint.locate(name).dtype is FP8


def _row_scales(scale: torch.Tensor, cut: Cut | None) -> torch.Tensor:
    scale = scale.view(-1, 1)
    return cut.of(scale) if cut is not None and cut.dimension == 0 else scale


def _moved(
    checkpoint: Checkpoint, name: str, dtype: torch.dtype, device: torch.device, cut: Cut | None = None
) -> torch.Tensor:
    stored = checkpoint.tensor(name)
    wanted = stored if cut is None else cut.of(stored)
    tensor = wanted.to(device=device, dtype=dtype, copy=wanted.nbytes < _SMALLEST_VIEW_BYTES).contiguous()
    if tensor.untyped_storage().data_ptr() != stored.untyped_storage().data_ptr():
        checkpoint.drop_pages(stored)
    return tensor
