"""What is in C against the plain operations, which round at the same places."""

import pytest
import torch

from runtime.llm.native.operations import NATIVE
from runtime.llm.patches.layer_operations import PLAIN
from runtime.llm.patches.operations import Activation, HeadNorms, Scale
from tests.fakes.native import needs_native

pytestmark = needs_native
SIZES = [16, 64, 200, 896]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).bfloat16()


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To a rounding or two; sums are in another order."""
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize("is_shifted", [False, True])
@pytest.mark.parametrize("num_rows", [1, 7, 300])
@pytest.mark.parametrize("size", SIZES)
def test_a_norm_adds_and_overwrites_the_addend_alone(size: int, num_rows: int, is_shifted: bool) -> None:
    hidden, addend = random(1, num_rows, size), random(1, num_rows, size)
    before, scale = hidden.clone(), Scale(random(size), 1e-5, is_shifted)
    expected, expected_total = PLAIN.add_norm(hidden, addend.clone(), scale)
    found, total = NATIVE.add_norm(hidden, addend, scale)
    assert total is addend
    assert torch.equal(total, expected_total)
    assert torch.equal(hidden, before)
    assert_close(found, expected)
    alone, unchanged = NATIVE.add_norm(hidden, None, scale)
    assert unchanged is hidden
    assert torch.equal(hidden, before)
    assert_close(alone, PLAIN.add_norm(before, None, scale)[0])


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("size", SIZES)
def test_the_first_half_gates_the_second(size: int, activation: Activation) -> None:
    gate_up = torch.cat([30 * random(1, 9, size), random(1, 9, size)], dim=-1)
    assert_close(NATIVE.gate(gate_up, activation), PLAIN.gate(gate_up, activation))


def test_a_gate_of_any_size_opens_or_shuts_and_nothing_else() -> None:
    extremes = torch.tensor([[float("-inf"), -3e38, -200.0, 0.0, 200.0, 3e38] + [1.0] * 6]).bfloat16()
    found = NATIVE.gate(extremes, "silu")[0].tolist()
    assert found[1:4] == [0, 0, 0]
    assert found[4:] == extremes[0, 4:6].tolist()


@pytest.mark.parametrize("has_norms", [False, True])
@pytest.mark.parametrize("size", [8, 64, 80, 128])
@pytest.mark.parametrize("num_tokens", [1, 50])
def test_heads_turn_in_place_beside_others_that_do_not(num_tokens: int, size: int, has_norms: bool) -> None:
    tokens, angles = random(num_tokens, 9, size), torch.rand(num_tokens, 1, size) * 6
    rotation = angles.cos().bfloat16(), angles.sin().bfloat16()
    norms = HeadNorms(Scale(random(size), 1e-5), Scale(random(size), 1e-2)) if has_norms else None
    expected = PLAIN.rotate(tokens.clone()[:, :7], rotation, 5, norms)
    values = tokens[:, 7:].clone()
    assert_close(NATIVE.rotate(tokens[:, :7], rotation, 5, norms), expected)
    assert torch.equal(tokens[:, 7:], values)


def test_what_lies_otherwise_or_is_of_another_dtype_is_computed_as_well() -> None:
    wide, scale = torch.randn(1, 5, 32), Scale(torch.randn(32), 1e-5)
    assert torch.equal(NATIVE.add_norm(wide, None, scale)[0], PLAIN.add_norm(wide, None, scale)[0])
    assert torch.equal(NATIVE.gate(wide, "silu"), PLAIN.gate(wide, "silu"))
    turned, angles = random(1, 32, 5).transpose(1, 2), random(5, 1, 32)
    assert torch.equal(NATIVE.gate(turned, "silu"), PLAIN.gate(turned, "silu"))
    heads = random(32, 4, 5).permute(2, 1, 0)
    expected = PLAIN.rotate(heads.clone(), (angles, angles), 3, None)
    assert torch.equal(NATIVE.rotate(heads, (angles, angles), 3, None), expected)
