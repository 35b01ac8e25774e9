import pytest
import torch

from runtime.llm.kernels.rotary import rotate
from runtime.llm.patches import operations
from runtime.llm.patches.operations import HeadNorms, Scale
from tests.fakes.triton_device import DEVICE

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 3e-2}
"""Relative to 1. The interpreter cuts bfloat16 off where hardware rounds it."""
NUM_TOKENS, NUM_VALUE_HEADS = 3, 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_norms", [False, True])
@pytest.mark.parametrize(("num_heads", "num_query_heads", "size"), [(2, 1, 16), (9, 7, 80), (12, 8, 64)])
def test_the_kernel_turns_queries_and_keys_in_place_and_leaves_the_values(
    dtype: torch.dtype, has_norms: bool, num_heads: int, num_query_heads: int, size: int
) -> None:
    torch.manual_seed(size)
    heads = torch.randn(NUM_TOKENS, num_heads + NUM_VALUE_HEADS, size, device=DEVICE).to(dtype)
    before = heads.clone()
    angles = torch.rand(NUM_TOKENS, 1, size, device=DEVICE) * 6
    rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
    weights = torch.randn(2, size, device=DEVICE).to(dtype)
    norms = HeadNorms(Scale(weights[0], 1e-6), Scale(weights[1], 1e-3)) if has_norms else None
    expected = operations.rotate(before.clone()[:, :num_heads], rotation, num_query_heads, norms)
    turned = rotate(heads[:, :num_heads], rotation, num_query_heads, norms)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(turned, expected, rtol=tolerance, atol=2 * tolerance)
    assert turned.data_ptr() == heads.data_ptr()
    assert torch.equal(heads[:, num_heads:], before[:, num_heads:])


def test_no_tokens_are_no_work() -> None:
    table = torch.empty(0, 1, 8, device=DEVICE)
    assert rotate(torch.empty(0, 3, 8, device=DEVICE), (table, table), 2).shape == (0, 3, 8)
