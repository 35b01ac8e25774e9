import pytest
import torch

from runtime.llm.linear import can_pack
from runtime.llm.patches.expert_weights import ExpertWeights

CPU = torch.device("cpu")


def make_weights(dtype: torch.dtype) -> ExpertWeights:
    generator = torch.Generator().manual_seed(1)
    # Pages of one expert end within those of the next.
    gate_up, down = (torch.randn(shape, generator=generator) for shape in ((3, 2 * 72, 100), (3, 100, 72)))
    return ExpertWeights(gate_up.to(dtype), down.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_experts_compute_what_they_did_and_the_others_too(dtype: torch.dtype) -> None:
    weights, plain = make_weights(dtype), make_weights(dtype)
    inputs, inner = torch.randn(5, 100).to(dtype), torch.randn(5, 72).to(dtype)
    units = weights.to_pack()
    assert len(units) == (3 if can_pack(dtype, CPU) else 0)
    for num_packed in range(len(units) + 1):
        for expert in range(3):
            found, expected = (
                (each.multiply_gate_up(expert, inputs), each.multiply_down(expert, inner)) for each in (weights, plain)
            )
            torch.testing.assert_close(found, expected)
        if num_packed < len(units):
            units[num_packed].pack()


@pytest.mark.skipif(not can_pack(torch.float32, CPU), reason="this CPU packs nothing")
def test_what_was_packed_is_given_back() -> None:
    weights = make_weights(torch.float32)
    weights.to_pack()[1].pack()
    assert (weights.gate_up[1] == 0).double().mean() > 0.5
    assert (weights.gate_up[[0, 2]] != 0).all()


def test_a_dtype_that_cannot_be_packed_is_left_alone() -> None:
    assert make_weights(torch.float16).to_pack() == []
