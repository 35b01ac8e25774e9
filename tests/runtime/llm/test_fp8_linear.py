import pytest
import torch
from torch import nn

from runtime.llm.fp8 import multiply_plainly, quantise_rows, rescale
from runtime.llm.fp8_linear import SCALE, Fp8Linear, make_linear
from runtime.llm.linear import Linear

SIZES = (32, 16, 48)


def _ignore(weight: torch.Tensor) -> None:
    pass


def _source(num_rows: int, *, has_bias: bool, is_quantised: bool = True) -> nn.Linear:
    linear = nn.Linear(64, num_rows, bias=has_bias, dtype=torch.bfloat16)
    if is_quantised:
        stored, scale = quantise_rows(linear.weight.detach())
        linear.weight = nn.Parameter(stored, requires_grad=False)
        linear.register_buffer(SCALE, scale)
    return linear


@pytest.mark.parametrize("num_tokens", [1, 5])
@pytest.mark.parametrize("has_bias", [True, False])
def test_several_quantised_layers_become_one_product(num_tokens: int, has_bias: bool) -> None:
    sources = [_source(size, has_bias=has_bias) for size in SIZES]
    linear = make_linear(sources, _ignore)
    assert isinstance(linear, Fp8Linear)
    assert (linear.output_sizes, linear.is_packable) == (list(SIZES), False)
    inputs = torch.randn(1, num_tokens, 64, dtype=torch.bfloat16)
    rows = quantise_rows(inputs[0])
    with torch.inference_mode():
        found = linear(inputs)
        expected = [
            multiply_plainly(*rows, source.weight, source.get_buffer(SCALE), source.bias, torch.bfloat16)
            for source in sources
        ]
    assert (found.shape, found.dtype) == ((1, num_tokens, sum(SIZES)), torch.bfloat16)
    assert torch.allclose(found[0].float(), torch.cat(expected, dim=-1).float(), rtol=1e-2, atol=1e-2)


def test_a_tokens_result_does_not_depend_on_its_neighbours() -> None:
    linear = make_linear([_source(32, has_bias=True)], _ignore)
    inputs = torch.randn(4, 64, dtype=torch.bfloat16)
    inputs[1] *= 1000
    with torch.inference_mode():
        assert torch.equal(linear(inputs)[2:3], linear(inputs[2:3]))


def test_layers_that_are_quantised_in_part_are_numbers_again() -> None:
    quantised, plain = _source(32, has_bias=False), _source(16, has_bias=False, is_quantised=False)
    numbers = rescale("row", quantised.weight.detach().to(torch.bfloat16), quantised.get_buffer(SCALE))
    linear = make_linear([quantised, plain], _ignore)
    assert type(linear) is Linear
    inputs = torch.randn(3, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = inputs @ torch.cat([numbers, plain.weight]).t()
        assert torch.allclose(linear(inputs).float(), expected.float(), rtol=2e-2, atol=2e-2)


def test_layers_that_are_not_quantised_are_as_ever() -> None:
    assert type(make_linear([_source(16, has_bias=True, is_quantised=False)], _ignore)) is Linear
