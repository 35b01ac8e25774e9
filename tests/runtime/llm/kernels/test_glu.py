import pytest
import torch

from runtime.llm.kernels.glu import gate
from runtime.llm.patches import operations
from runtime.llm.patches.operations import Activation
from tests.fakes.triton_device import DEVICE

ACTIVATIONS: list[Activation] = ["silu", "gelu", "gelu_tanh"]
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 3e-2}
"""Relative. The interpreter cuts bfloat16 off where hardware rounds it."""


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, where hardware says infinity
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("width", [1, 7, 1024, 1030])
def test_the_kernel_computes_what_plain_torch_does(dtype: torch.dtype, activation: Activation, width: int) -> None:
    torch.manual_seed(width)
    gate_up = (torch.randn(1, 3, 2 * width, device=DEVICE) * 4).to(dtype)
    gate_up[0, 0, 0], gate_up[0, 1, 0] = -120.0, 120.0
    before = gate_up.clone()
    tolerance = TOLERANCES[dtype]
    expected = operations.gate(gate_up, activation)
    torch.testing.assert_close(gate(gate_up, activation), expected, rtol=tolerance, atol=2 * tolerance)
    assert torch.equal(gate_up, before)


def test_no_rows_are_no_work() -> None:
    assert gate(torch.empty(1, 0, 8, device=DEVICE), "silu").shape == (1, 0, 4)
