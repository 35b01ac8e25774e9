"""Which attention back end a model gets on its device."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.attention_native import NativeAttention, suits_native
from runtime.settings import AttentionBackend

_HEAD_SIZE_MAX = 256
"""Of larger heads a tile would fill a program's registers."""
_LATENT_SIZES_MAX = (512, 64)
"""Of keys that begin with their values: kernels divide their query heads among programs."""


def choose_attention(
    shape: AttentionInfo,
    *,
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    backend: AttentionBackend,
    is_fp8: bool = False,
) -> GatherAttention:
    """With `auto` Triton's kernels, flash-attn's or those in C where device, package and shape allow; else torch's."""
    chosen: Callable[..., GatherAttention] = GatherAttention
    if backend == "auto" and suits_native(shape, dtype, device, is_fp8=is_fp8):
        chosen = NativeAttention
    if backend == "auto" and _suits_triton(shape, device):
        # triton's gigabyte is not for workers on CPUs
        from runtime.llm.attention_flash import FlashAttention, find_flash
        from runtime.llm.attention_triton import TritonAttention

        function = find_flash(shape, dtype, device, is_fp8=is_fp8)
        chosen = TritonAttention if function is None else partial(FlashAttention, function=function)
    return chosen(shape, num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=device, is_fp8=is_fp8)


def _suits_triton(shape: AttentionInfo, device: torch.device) -> bool:
    """Triton compiles for compute capability 8 and later what these kernels need."""
    return (
        device.type == "cuda"
        and _are_tiles_small(shape)
        and find_spec("triton") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _are_tiles_small(shape: AttentionInfo) -> bool:
    limits = _LATENT_SIZES_MAX if shape.has_values_in_keys else (_HEAD_SIZE_MAX, _HEAD_SIZE_MAX)
    return all(size <= limit for size, limit in zip(shape.part_sizes, limits, strict=True))
