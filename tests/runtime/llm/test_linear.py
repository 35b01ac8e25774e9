import pytest
import torch
from torch import nn

from runtime.llm.linear import Linear, Packing, can_pack

CPU = torch.device("cpu")
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_pack(dtype, CPU)]


def _ignore(weight: torch.Tensor) -> None:
    pass


def _sources(dtype: torch.dtype, *, bias: bool) -> list[nn.Linear]:
    return [nn.Linear(48, size, bias=bias, dtype=dtype) for size in (32, 16, 17)]


@pytest.mark.parametrize("num_rows", [1, 3, 40])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_packed_or_not_it_computes_what_its_sources_do(dtype: torch.dtype, bias: bool, num_rows: int) -> None:
    sources = _sources(dtype, bias=bias)
    linear = Linear(sources, _ignore)
    inputs = torch.randn(1, num_rows, 48, dtype=dtype)
    with torch.inference_mode():
        expected = torch.cat([source(inputs) for source in sources], dim=-1)
        unpacked = linear(inputs)
        linear.pack()
        packed = linear(inputs)
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2  # one rounding of bfloat16 at this size
    assert torch.allclose(unpacked, expected, atol=tolerance)
    assert torch.allclose(packed, expected, atol=tolerance)


def test_packing_releases_each_weight_once() -> None:
    released: list[int] = []
    sources = _sources(torch.float32, bias=True)
    linear = Linear(sources, lambda weight: released.append(weight.data_ptr()))
    linear.pack()
    linear.pack()
    assert released == [source.weight.data_ptr() for source in sources]


def test_what_cannot_be_packed_is_merged_at_once_and_computes_the_same() -> None:
    released: list[torch.Tensor] = []
    sources = _sources(torch.float64, bias=True)
    linear = Linear(sources, released.append)
    inputs = torch.randn(1, 2, 48, dtype=torch.float64)
    assert not linear.is_packable
    assert len(released) == len(sources)
    with torch.inference_mode():
        assert torch.allclose(linear(inputs), torch.cat([source(inputs) for source in sources], dim=-1))


def test_packing_takes_the_time_it_is_given() -> None:
    num_released = 0

    def count(weight: torch.Tensor) -> None:
        nonlocal num_released
        num_released += 1

    packing = Packing(Linear([nn.Linear(8, 8)], count) for _ in range(3))
    packing.advance(0.0)
    assert num_released == 0
    assert packing
    packing.advance(60.0)
    assert num_released == 3
    assert not packing


def test_other_devices_and_dtypes_are_not_packed() -> None:
    assert not can_pack(torch.float16, CPU)
    assert not can_pack(torch.bfloat16, torch.device("cuda"))
