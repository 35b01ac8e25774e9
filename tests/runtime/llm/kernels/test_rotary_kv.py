"""One kernel against the two that do the same one after the other, which have references of their own."""

import pytest
import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.kernels.kv_write import write_kv
from runtime.llm.kernels.rotary import rotate
from runtime.llm.kernels.rotary_kv import rotate_into_cache
from runtime.llm.patches.operations import HeadNorms, Rotation, Scale
from tests.fakes.triton_device import DEVICE

NUM_SLOTS, NUM_TOKENS = 40, 5
SLOTS = torch.tensor([7, -1, 39, 0, 12], dtype=torch.int32, device=DEVICE)
"""The second token is padding."""


def make_attention(
    num_heads: int, num_kv_heads: int, size: int, dtype: torch.dtype, *, is_fp8: bool
) -> GatherAttention:
    shape = AttentionInfo(
        num_layers=1, num_heads=num_heads, num_kv_heads=num_kv_heads, head_size=size, value_head_size=size
    )
    return GatherAttention(shape, num_blocks=NUM_SLOTS, block_size=1, dtype=dtype, device=DEVICE, is_fp8=is_fp8)


def make_rotation(size: int, dtype: torch.dtype) -> Rotation:
    angles = torch.rand(NUM_TOKENS, 1, size, device=DEVICE) * 6
    return angles.cos().to(dtype), angles.sin().to(dtype)


def memory_of(attention: GatherAttention) -> tuple[torch.Tensor, torch.Tensor | None]:
    return attention.caches[0], attention.scales[0] if attention.scales else None


@pytest.mark.parametrize("is_fp8", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_norms", [False, True])
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "size"), [(1, 1, 16), (7, 1, 80), (6, 3, 64), (14, 2, 24)])
def test_it_gives_what_rotating_and_writing_give_to_the_bit(
    num_heads: int, num_kv_heads: int, size: int, has_norms: bool, dtype: torch.dtype, is_fp8: bool
) -> None:
    torch.manual_seed(size)
    heads = torch.randn(NUM_TOKENS, num_heads + 2 * num_kv_heads, size, device=DEVICE).to(dtype)
    heads[3] *= 1e4
    rotation, weights = make_rotation(size, dtype), torch.randn(2, size, device=DEVICE).to(dtype)
    norms = HeadNorms(Scale(weights[0], 1e-6), Scale(weights[1], 1e-3)) if has_norms else None
    apart, together = (make_attention(num_heads, num_kv_heads, size, dtype, is_fp8=is_fp8) for _ in range(2))
    separate = heads.clone()
    turned = rotate(separate[:, : num_heads + num_kv_heads], rotation, num_heads, norms)
    cache, scales = memory_of(apart)
    write_kv(cache, turned[:, num_heads:], separate[:, num_heads + num_kv_heads :], SLOTS, scales)
    cache, scales = memory_of(together)
    query = rotate_into_cache(heads, rotation, norms, cache, SLOTS, scales)
    assert torch.equal(query, turned[:, :num_heads])
    assert torch.equal(together.caches[0].view(torch.uint8), apart.caches[0].view(torch.uint8))
    assert cache.view(torch.uint8).flatten(1).any(dim=1).nonzero().flatten().tolist() == [0, 7, 12, 39]
    if is_fp8:
        assert torch.equal(together.scales[0], apart.scales[0])


def test_what_is_not_a_number_stays_so_in_8_bit_floats() -> None:
    attention = make_attention(1, 1, 16, torch.float32, is_fp8=True)
    heads = torch.ones(NUM_TOKENS, 3, 16, device=DEVICE)
    heads[0, 1:, 3] = float("nan")
    rotation = make_rotation(16, torch.float32)
    rotate_into_cache(heads, rotation, None, attention.caches[0], SLOTS, attention.scales[0])
    assert attention.load(0, SLOTS[:1].long())[..., [3, 11, 19]].isnan().all()
