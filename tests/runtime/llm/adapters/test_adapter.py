import pytest
import torch

from runtime.llm.adapters.adapter import LoraAdapter, LowRankChange, Rows, Widening


@pytest.mark.parametrize("rows", [slice(1, 4), torch.tensor([0, 2, 3])])
def test_only_its_rows_and_columns_are_changed(rows: Rows) -> None:
    generator = torch.Generator().manual_seed(1)
    narrowing, first, second = (torch.randn(shape, generator=generator) for shape in ((5, 6), (2, 3), (3, 1)))
    change = LowRankChange(narrowing, [Widening(1, 4, first), Widening(6, 7, second)])
    inputs = torch.randn(5, 6, generator=generator)
    before = torch.randn(5, 8, generator=generator)
    outputs = before.clone()
    change.add(inputs, outputs, rows)
    expected = before.clone()
    expected[rows, 1:4] += inputs[rows] @ narrowing[:2].t() @ first
    expected[rows, 6:7] += inputs[rows] @ narrowing[2:].t() @ second
    assert torch.allclose(outputs, expected, atol=1e-5)
    is_changed = torch.zeros(5, 8, dtype=torch.bool)
    is_changed[rows, 1:4] = is_changed[rows, 6:7] = True
    assert torch.equal(outputs[~is_changed], before[~is_changed])


def test_rows_side_by_side_and_scattered_ones_come_to_the_same() -> None:
    generator = torch.Generator().manual_seed(1)
    narrowing, widening = (torch.randn(shape, generator=generator).to(torch.bfloat16) for shape in ((4, 32), (4, 16)))
    change = LowRankChange(narrowing, [Widening(0, 16, widening)])
    inputs = torch.randn(6, 32, generator=generator).to(torch.bfloat16)
    together, scattered = (torch.ones(6, 16, dtype=torch.bfloat16) for _ in range(2))
    change.add(inputs, together, slice(0, 6))
    change.add(inputs, scattered, torch.tensor([0, 1, 2, 3, 4, 5]))
    assert torch.equal(together, scattered)


def test_equal_files_have_equal_digests_and_others_have_not() -> None:
    one, same, other, renamed = (
        LoraAdapter({}, files).digest
        for files in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"})
    )
    assert one == same
    assert len({one, other, renamed}) == 3
