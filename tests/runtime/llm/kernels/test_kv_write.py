import pytest
import torch

from runtime.llm.kernels.kv_write import write_kv
from tests.fakes.triton_device import DEVICE

NUM_SLOTS = 40


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
