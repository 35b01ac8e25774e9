import ctypes

import pytest
import torch

from runtime.llm.forward_context import Scoring
from runtime.llm.native.structures import describe_heads, point_rotation, point_scale, point_tokens
from runtime.llm.patches.operations import Scale


def read(pointer: int | None, tensor: torch.Tensor) -> torch.Tensor:
    """As many numbers from there as the tensor has."""
    assert pointer is not None
    values = (ctypes.c_float * tensor.numel()).from_address(pointer)
    return torch.tensor(list(values)).view(tensor.shape)


def test_a_scale_points_at_its_weight_and_none_at_nothing() -> None:
    scale = Scale(torch.randn(5), 1e-5, is_shifted=True)
    structure = point_scale(scale)
    assert torch.equal(read(structure.weight, scale.weight), scale.weight)
    assert (round(structure.epsilon, 9), structure.is_shifted) == (1e-5, 1)
    assert point_scale(None).weight is None


def test_a_rotation_points_at_cosines_and_sines() -> None:
    cosine, sine = torch.randn(2, 3, 1, 4).unbind()
    structure = point_rotation((cosine, sine))
    assert torch.equal(read(structure.cosine, cosine), cosine)
    assert torch.equal(read(structure.signed_sine, sine), sine)


def test_tokens_are_apart_by_what_lies_between_them() -> None:
    heads = torch.randn(3, 6, 4)[:, 2:4]
    structure = point_tokens(heads)
    assert torch.equal(read(structure.numbers, heads[0]), heads[0])
    assert structure.stride == 24


def test_sinks_are_of_heads() -> None:
    sinks = torch.randn(14)
    assert torch.equal(read(describe_heads(14, 2, 64, Scoring(0.125, sinks=sinks)).sinks, sinks), sinks)
    assert describe_heads(14, 2, 64, Scoring(0.125)).sinks is None, "none"


@pytest.mark.parametrize(("size", "is_whole"), [(64, True), (96, True), (80, False)])
def test_heads_of_whole_tiles_are_for_amx_where_it_is(size: int, is_whole: bool, instructions: str) -> None:
    heads = describe_heads(14, 2, size, Scoring(0.125))
    assert (heads.window, heads.softcap) == (0, 0), "none"
    assert heads.is_for_amx == (is_whole and instructions == "tiles")
