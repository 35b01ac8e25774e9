import pytest
import torch

from models.info import AttentionInfo
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.kernels.kv_write import write_kv
from tests.fakes.triton_device import DEVICE

NUM_SLOTS = 40


def test_a_token_without_a_slot_is_not_written() -> None:
    cache = torch.zeros(NUM_SLOTS, 2, 32, device=DEVICE)
    key, value = (torch.ones(3, 2, 16, device=DEVICE) for _ in range(2))
    write_kv(cache, key, value, torch.tensor([7, -1, 4], dtype=torch.int32, device=DEVICE))
    assert cache.flatten(1).any(dim=1).nonzero().flatten().tolist() == [4, 7]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("num_tokens", "num_kv_heads", "head_size", "value_size"),
    [(1, 1, 16, 16), (9, 3, 80, 80), (5, 2, 24, 16), (3, 1, 8, 48)],
)
def test_keys_and_values_go_to_their_slots_and_nowhere_else(
    num_tokens: int, num_kv_heads: int, head_size: int, value_size: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    cache = torch.randn(NUM_SLOTS, num_kv_heads, head_size + value_size).to(DEVICE, dtype)
    # As models give them: parts of one product, and heads before tokens.
    product = torch.randn(num_tokens, num_kv_heads, head_size + value_size).to(DEVICE, dtype)
    key, value = product[..., :head_size], product[..., head_size:].transpose(0, 1).contiguous().transpose(0, 1)
    slots = torch.randperm(NUM_SLOTS)[:num_tokens].to(DEVICE, torch.int32)
    expected = cache.index_copy(0, slots.long(), product)
    write_kv(cache, key, value, slots)
    assert torch.equal(cache, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("num_kv_heads", "head_size", "value_size"), [(1, 16, 16), (3, 24, 40)])
def test_8_bit_floats_and_their_scales_equal_the_reference_to_the_bit(
    num_kv_heads: int, head_size: int, value_size: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    shape = AttentionInfo(
        num_layers=1,
        num_heads=num_kv_heads,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        value_head_size=value_size,
    )
    expected, found = (
        GatherAttention(shape, num_blocks=NUM_SLOTS, block_size=1, dtype=dtype, device=DEVICE, is_fp8=True)
        for _ in range(2)
    )
    rows = torch.randn(9, num_kv_heads, head_size + value_size).to(DEVICE, dtype)
    rows[0] = 0.0
    rows[1] *= 1e4
    rows[2, 0, :head_size] = 3e-6
    slots = torch.randperm(NUM_SLOTS)[:9].to(DEVICE)
    expected.store(0, slots, rows)
    key, value = torch.split(rows, shape.part_sizes, dim=-1)
    write_kv(found.caches[0], key, value, slots.to(torch.int32), found.scales[0])
    assert torch.equal(found.scales[0], expected.scales[0])
    assert torch.equal(found.caches[0].view(torch.uint8), expected.caches[0].view(torch.uint8))


def test_8_bit_floats_of_what_is_not_a_number_are_none_either() -> None:
    shape = AttentionInfo(num_layers=1, num_heads=1, num_kv_heads=1, head_size=16, value_head_size=16)
    attention = GatherAttention(shape, num_blocks=2, block_size=1, dtype=torch.float32, device=DEVICE, is_fp8=True)
    part = torch.ones(1, 1, 16, device=DEVICE)
    part[..., 3] = float("nan")
    slot = torch.tensor([1], device=DEVICE)
    write_kv(attention.caches[0], part, part, slot.to(torch.int32), attention.scales[0])
    assert attention.load(0, slot)[..., [3, 19]].isnan().all()


@pytest.mark.parametrize("is_fp8", [False, True])
def test_nothing_is_written_of_a_token_without_a_slot(is_fp8: bool) -> None:
    shape = AttentionInfo(num_layers=1, num_heads=2, num_kv_heads=2, head_size=16, value_head_size=16)
    attention = GatherAttention(shape, num_blocks=4, block_size=1, dtype=torch.float32, device=DEVICE, is_fp8=is_fp8)
    scales = attention.scales[0] if is_fp8 else None
    part = torch.ones(3, 2, 16, device=DEVICE)
    slots = torch.tensor([-1, 2, -1], dtype=torch.int32, device=DEVICE)
    write_kv(attention.caches[0], part, part, slots, scales)
    loaded = attention.load(0, torch.arange(4, device=DEVICE))
    assert [bool(row.any()) for row in loaded] == [False, False, True, False]
