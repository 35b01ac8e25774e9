from collections.abc import Callable

import pytest
import torch
from torch import nn

from runtime.llm.linear import Linear, Packing, can_pack, merge

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


def test_what_lies_side_by_side_is_merged_without_a_copy() -> None:
    rows = torch.randn(20, 8)
    parts = [rows[2:5], rows[5:6], rows[6:20]]
    merged = merge(parts)
    assert torch.equal(merged, rows[2:])
    assert merged.data_ptr() == rows[2:].data_ptr()
    biases = torch.randn(9)
    assert merge([biases[:4], biases[4:]]).data_ptr() == biases.data_ptr()


@pytest.mark.parametrize(
    "order",
    [
        lambda rows: [rows[:2], rows[3:5]],
        lambda rows: [rows[2:4], rows[:2]],
        lambda rows: [rows[:2], rows[2:4].clone()],
        lambda rows: [rows[:2, :3], rows[2:4, :3]],
        lambda rows: [rows[:2], rows[:2]],
    ],
)
def test_what_lies_apart_is_merged_into_a_copy(order: Callable[[torch.Tensor], list[torch.Tensor]]) -> None:
    rows = torch.randn(6, 4)
    parts = order(rows)
    merged = merge(parts)
    assert torch.equal(merged, torch.cat(parts))
    assert merged.untyped_storage().data_ptr() != rows.untyped_storage().data_ptr()


def test_weights_that_lie_side_by_side_stay_where_they_are() -> None:
    rows = torch.randn(65, 48, dtype=torch.float64)
    sources = _sources(torch.float64, bias=True)
    for source, weight in zip(sources, torch.split(rows, [32, 16, 17]), strict=True):
        source.weight = nn.Parameter(weight, requires_grad=False)
    released: list[torch.Tensor] = []
    linear = Linear(sources, released.append)
    inputs = torch.randn(1, 2, 48, dtype=torch.float64)
    assert linear._weights[0].data_ptr() == rows.data_ptr()
    assert not released
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
