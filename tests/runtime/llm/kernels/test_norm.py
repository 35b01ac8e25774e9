import pytest
import torch

from runtime.llm.kernels.norm import add_norm
from runtime.llm.patches import operations
from runtime.llm.patches.operations import Scale
from tests.fakes.triton_device import DEVICE

KINDS = {
    "scaled": lambda weight, bias: Scale(weight, 1e-5),
    "shifted": lambda weight, bias: Scale(weight, 1e-5, is_shifted=True),
    "centred": lambda weight, bias: Scale(weight, 1e-5, is_centred=True),
    "centred with a bias": lambda weight, bias: Scale(weight, 1e-5, is_centred=True, bias=bias),
}

TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 3e-2}
"""Relative. The interpreter cuts bfloat16 off where hardware rounds it."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 96, 128, 1025])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_addend", [False, True])
def test_the_kernel_computes_what_plain_torch_does(dtype: torch.dtype, width: int, kind: str, has_addend: bool) -> None:
    torch.manual_seed(width)
    hidden, addend = (torch.randn(1, 3, width, device=DEVICE).to(dtype) for _ in range(2))
    weight, bias = torch.randn(2, width, device=DEVICE).to(dtype)
    scale = KINDS[kind](weight, bias)
    before = hidden.clone()
    expected, expected_sum = operations.add_norm(hidden, addend.clone() if has_addend else None, scale)
    normed, total = add_norm(hidden, addend if has_addend else None, scale)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(normed, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(total, expected_sum, rtol=tolerance, atol=tolerance)
    assert (total is addend) == has_addend, "the sum takes the addend's place"
    assert torch.equal(hidden, before)


def test_heads_that_lie_transposed_are_normed_where_they_are() -> None:
    heads = torch.randn(1, 5, 3, 24, device=DEVICE).transpose(1, 2)
    scale = Scale(torch.randn(24, device=DEVICE), 1e-6)
    normed, _ = add_norm(heads, None, scale)
    assert normed.stride() == heads.stride()
    torch.testing.assert_close(normed, operations.add_norm(heads, None, scale)[0])
    some = heads[..., :16]
    scale = Scale(scale.weight[:16], 1e-6)
    torch.testing.assert_close(add_norm(some, None, scale)[0], operations.add_norm(some, None, scale)[0])


def test_no_rows_are_no_work() -> None:
    nothing = torch.empty(1, 0, 8, device=DEVICE)
    assert add_norm(nothing, None, Scale(torch.ones(8, device=DEVICE), 1e-6))[0].shape == nothing.shape
