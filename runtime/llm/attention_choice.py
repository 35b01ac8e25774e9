"""Which attention back end a model gets on its device."""

from importlib.util import find_spec

import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import GatherAttention
from runtime.settings import AttentionBackend

_HEAD_SIZE_MAX = 256
"""Of larger heads a tile would fill a program's registers."""


def choose_attention(
    shape: AttentionInfo,
    *,
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    backend: AttentionBackend,
) -> GatherAttention:
    """With `auto` Triton's kernels where device, package and shape allow; else plain torch."""
    if backend == "gather" or not _suits_triton(shape, device):
        return GatherAttention(shape, num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=device)
    from runtime.llm.attention_triton import TritonAttention  # triton's gigabyte is not for workers on CPUs

    return TritonAttention(shape, num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=device)


def _suits_triton(shape: AttentionInfo, device: torch.device) -> bool:
    """Triton compiles for compute capability 8 and later what these kernels need."""
    return (
        device.type == "cuda"
        and max(shape.head_size, shape.value_head_size) <= _HEAD_SIZE_MAX
        and find_spec("triton") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )
