from typing import Any

import pytest

from models.refusal import ModelRefused, RefusalReason
from models.rotary import Rotary, read_rotary

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5]}
LONGROPE = {"type": "longrope", **FACTORS, "original_max_position_embeddings": 128}


def read(
    parameters: dict[str, Any], default_fraction: float | None = None, original_length: int | None = None
) -> Rotary:
    return read_rotary(
        parameters,
        head_size=16,
        max_position_embeddings=512,
        default_fraction=default_fraction,
        original_length=original_length,
    )


def refusal(parameters: dict[str, Any], default_fraction: float | None = None) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        read(parameters, default_fraction)
    assert refused.value.file == "config.json"
    return refused.value


@pytest.mark.parametrize(
    ("parameters", "max_context_length"),
    [
        ({}, 512),
        ({"rope_theta": 5e5}, 512),
        ({"type": "linear", "factor": 2}, 512),
        ({"rope_type": "dynamic", "factor": 2.0}, 512),
        ({"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3}, 512),
        ({"type": "yarn", "factor": 4.0}, 2048),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}, 512),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "mscale": 0.7}, 1024),
        (LONGROPE, 512),
        ({**LONGROPE, "rope_type": "longrope", "factor": 4.0}, 512),
    ],
)
def test_how_far_each_kind_reaches(parameters: dict[str, Any], max_context_length: int) -> None:
    assert read(parameters).max_context_length == max_context_length


def test_a_length_stated_beside_the_parameters_wins() -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    assert read(yarn, original_length=512).max_context_length == 2048


@pytest.mark.parametrize("key", ["type", "rope_type"])
@pytest.mark.parametrize("rope_type", ["axial", "proportional", "mrope", "su", ["default"], None, 3])
def test_an_unknown_kind_is_refused_by_name(key: str, rope_type: object) -> None:
    refused = refusal({key: rope_type, "factor": 2.0})
    assert refused.reason == RefusalReason.UNSUPPORTED_ATTENTION
    assert str(rope_type)[:10] in refused.message
    assert "llama3" in refused.message, "what is supported is said"


@pytest.mark.parametrize(
    ("stated", "default", "num_rotated"),
    [(None, None, 16), (1.0, None, 16), (None, 0.25, 4), (0.5, 0.25, 8), (0.75, 1.0, 12), (1, 0.5, 16)],
)
def test_how_much_of_a_head_is_turned(stated: float | None, default: float | None, num_rotated: int) -> None:
    assert read({"partial_rotary_factor": stated}, default).num_rotated == num_rotated


def test_an_architecture_that_turns_whole_heads_refuses_to_turn_a_part() -> None:
    assert refusal({"partial_rotary_factor": 0.5}).reason == RefusalReason.UNSUPPORTED_ATTENTION


@pytest.mark.parametrize("fraction", [0, -1, 1.5, 0.1, 0.2, float("nan")])
def test_a_fraction_that_leaves_no_even_number_is_refused(fraction: float) -> None:
    assert refusal({"partial_rotary_factor": fraction}, 0.5).reason == RefusalReason.INVALID_CONFIG


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_theta": 0},
        {"rope_theta": "10000"},
        {"full_attention": {"rope_type": "default"}},
        {"type": "linear"},
        {"type": "dynamic", "factor": float("inf")},
        {"type": "linear", "factor": -1},
        {"type": "linear", "factor": True},
        {"type": "llama3", "factor": 8.0},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": "128"},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
        {"type": "longrope"},
        {**LONGROPE, "long_factor": [1.0] * 7},
        {**LONGROPE, "short_factor": [1.0] * 7 + [0.0]},
        {**LONGROPE, "short_factor": [1.0] * 7 + ["1"]},
        {**LONGROPE, "original_max_position_embeddings": 0},
    ],
)
def test_a_senseless_value_is_refused(parameters: dict[str, Any]) -> None:
    refused = refusal(parameters)
    assert refused.reason == RefusalReason.INVALID_CONFIG
    assert "rotary embedding" in refused.message
