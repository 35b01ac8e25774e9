import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.fp8 import FP8_MAX
from runtime.llm.fp8 import FP8, SMALLEST_STEP, can_multiply, multiply, multiply_plainly, quantise_rows, rescale

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 70), st.floats(1e-30, 1e30), st.sampled_from([0, 1, 9])
)
def test_numbers_come_back_within_the_formats_bound(
    seed: int, num_rows: int, num_columns: int, magnitude: float, spread: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = num_rows, num_columns
    powers = torch.randint(-spread, spread + 1, shape, generator=generator)
    numbers = torch.randn(shape, generator=generator).mul_(magnitude) * 2.0**powers
    stored, scale = quantise_rows(numbers)
    assert (stored.dtype, stored.shape, scale.dtype, scale.shape) == (FP8, shape, torch.float32, (num_rows, 1))
    found = rescale("row", stored.float(), scale)
    bound = torch.maximum(numbers.abs() / 16, scale * SMALLEST_STEP / 2)
    assert ((found - numbers).abs() <= bound * 1.0001).all()
    again, same_scale = quantise_rows(found)
    assert torch.equal(again.float(), stored.float()), "what was quantised once loses nothing the second time"
    assert torch.allclose(same_scale, scale, rtol=1e-6)


def test_rows_of_zeros_stay_zeros_and_the_largest_number_is_the_formats_largest() -> None:
    stored, scale = quantise_rows(torch.tensor([[0.0, 0.0], [3.0, -1.5]], dtype=torch.bfloat16))
    assert stored.float().tolist() == [[0.0, 0.0], [FP8_MAX, -FP8_MAX / 2]]
    assert scale.isfinite().all()
    assert rescale("row", stored.float(), scale)[0].tolist() == [0.0, 0.0]


def test_what_is_not_finite_shows_in_the_scale() -> None:
    _, scale = quantise_rows(torch.tensor([[1.0, torch.inf], [torch.nan, 1.0], [1.0, 1.0]]))
    assert scale.isfinite().flatten().tolist() == [False, False, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rescaling_rounds_each_number_once(dtype: torch.dtype) -> None:
    stored = (torch.randn(300, 200) * 100).to(FP8)
    rows, blocks = torch.rand(300, 1), torch.rand(3, 2, dtype=torch.bfloat16)
    assert torch.equal(rescale("row", stored.to(dtype), rows), (stored.float() * rows).to(dtype))
    assert torch.equal(rescale("row", stored.to(dtype), rows.flatten()), (stored.float() * rows).to(dtype))
    spread = blocks.float().repeat_interleave(128, 0).repeat_interleave(128, 1)[:300, :200]
    numbers = stored.to(dtype)
    assert rescale("block", numbers, blocks) is numbers
    assert torch.equal(numbers, (stored.float() * spread).to(dtype))


def _factors(device: torch.device, num_rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_rows)
    inputs = torch.randn(num_rows, 64, generator=generator).to(device)
    weight = torch.randn(48, 64, generator=generator).mul_(0.02).to(device)
    return *quantise_rows(inputs), *quantise_rows(weight)


@pytest.mark.parametrize("num_rows", [1, 3, 16, 33])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_product_is_that_of_plain_operations(num_rows: int, has_bias: bool) -> None:
    bias = torch.randn(48, dtype=torch.bfloat16) if has_bias else None
    factors = _factors(CPU, num_rows)
    found = multiply(*factors, bias, torch.bfloat16)
    assert found.dtype is torch.bfloat16
    expected = multiply_plainly(*factors, bias, torch.bfloat16)
    assert torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-3)  # a bfloat16 has 8 bits


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("num_rows", [1, 3, 16, 33, 257])
def test_the_product_on_a_gpu_is_that_of_plain_operations(num_rows: int) -> None:
    device = torch.device("cuda")
    if not can_multiply(device, torch.bfloat16):
        pytest.skip("this GPU has no product of 8-bit floats by rows")
    bias = torch.randn(48, dtype=torch.bfloat16, device=device)
    factors = _factors(device, num_rows)
    found, expected = (product(*factors, bias, torch.bfloat16) for product in (multiply, multiply_plainly))
    assert torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-3)


def test_a_processor_converts() -> None:
    assert not can_multiply(CPU, torch.bfloat16)
