import pytest
import torch
from torch.nn.functional import linear

from runtime.llm.linear import PackedWeight
from runtime.llm.native.products import can_multiply
from tests.fakes.native import needs_native


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).bfloat16()


@needs_native
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(64, 32), (100, 70), (1, 2), (192, 896), (70, 1100)])
def test_it_computes_what_torch_does_for_any_shape(num_outputs: int, num_inputs: int, has_bias: bool) -> None:
    weight, bias = random(num_outputs, num_inputs), random(num_outputs) if has_bias else None
    packed = PackedWeight(weight, bias)
    assert packed.native_product is not None
    for num_rows in [*range(1, 15), 18, 19, 59, 60, 61, 130]:
        inputs = random(1, num_rows, num_inputs)
        expected = linear(inputs.double(), weight.double(), None if bias is None else bias.double())
        found = packed.multiply(inputs)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()


@needs_native
@pytest.mark.parametrize("num_inputs", [96, 1100])
def test_a_row_is_the_same_to_the_bit_whatever_is_beside_it(num_inputs: int) -> None:
    packed, inputs = PackedWeight(random(130, num_inputs)), random(130, num_inputs)
    together = packed.multiply(inputs)
    for row in range(130):
        assert torch.equal(packed.multiply(inputs[row : row + 1]), together[row : row + 1])
    assert torch.equal(packed.multiply(inputs.T.contiguous().T), together), "strides do not matter"


@needs_native
def test_it_is_for_bfloat16_of_even_inputs_without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_multiply(random(64, 34))
    assert not can_multiply(random(64, 33))
    assert not can_multiply(random(64, 34).float())
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert not can_multiply(random(64, 34))
