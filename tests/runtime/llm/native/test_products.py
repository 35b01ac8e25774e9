import pytest
import torch
from torch.nn.functional import linear

from runtime.llm.linear import PackedWeight
from runtime.llm.native.products import NativeProduct, can_multiply
from tests.fakes.native import needs_native


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).bfloat16()


@needs_native
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(64, 32), (100, 70), (1, 2), (192, 896), (70, 1100)])
def test_it_computes_what_torch_does_for_any_shape(
    num_outputs: int, num_inputs: int, has_bias: bool, instructions: str
) -> None:
    weight, bias = random(num_outputs, num_inputs), random(num_outputs) if has_bias else None
    product = NativeProduct(weight, bias)
    assert product.linear.is_for_amx == (instructions == "tiles" and num_inputs % 32 == 0)
    for num_rows in [*range(1, 20), 31, 32, 33, 48, 49, 63, 64, 65, 130]:
        inputs = random(1, num_rows, num_inputs)
        expected = linear(inputs.double(), weight.double(), None if bias is None else bias.double())
        found = product.multiply(inputs)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()


@needs_native
@pytest.mark.parametrize("num_inputs", [96, 1100])
@pytest.mark.parametrize("scale", [1.0, 1e-19], ids=["ordinary", "products that are flushed to zero"])
@pytest.mark.usefixtures("instructions")
def test_a_row_is_the_same_to_the_bit_whatever_is_beside_it(num_inputs: int, scale: float) -> None:
    product, inputs = NativeProduct(scale * random(130, num_inputs), None), scale * random(130, num_inputs)
    together = product.multiply(inputs)
    for row in range(130):
        assert torch.equal(product.multiply(inputs[row : row + 1]), together[row : row + 1])
    assert torch.equal(product.multiply(inputs.T.contiguous().T), together), "strides do not matter"


@needs_native
def test_it_is_for_bfloat16_of_even_inputs() -> None:
    assert can_multiply(random(64, 34))
    assert not can_multiply(random(64, 33))
    assert not can_multiply(random(64, 34).float())


@needs_native
def test_packed_weights_use_amx_where_the_processor_has_it() -> None:
    product = PackedWeight(random(64, 64)).native_product
    assert product is not None
    assert product.linear.is_for_amx == torch.cpu._is_amx_tile_supported()
