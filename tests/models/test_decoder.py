"""What every family checks alike, tried on a Llama's config."""

from typing import Any

import pytest

from models.architectures import describe, read_decoder
from models.decoder import Decoder
from models.refusal import ModelRefused, RefusalReason

LLAMA: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def read(**fields: Any) -> Decoder:
    return read_decoder({**LLAMA, **fields}, "llama")


def refusal(fields: dict[str, Any], model_type: str = "llama") -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        describe("tested", model_type, read_decoder({**LLAMA, **fields}, model_type))
    assert refused.value.file == "config.json"
    return refused.value


def test_key_value_heads_default_to_all_heads() -> None:
    assert read().num_kv_heads == 4
    assert read(num_key_value_heads=None).num_kv_heads == 4
    assert read(num_key_value_heads=2).num_kv_heads == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", -64),
        ("hidden_size", "64"),
        ("hidden_size", 66),
        ("hidden_size", 10**30),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", True),
        ("num_attention_heads", 0),
        ("num_attention_heads", None),
        ("num_key_value_heads", 3),
        ("num_key_value_heads", 8),
        ("head_dim", 15),
        ("intermediate_size", None),
        ("vocab_size", 0),
        ("max_position_embeddings", 0),
        ("hidden_act", "gelu"),
        ("tie_word_embeddings", "yes"),
        ("eos_token_id", "2"),
        ("eos_token_id", [1, None]),
        ("rope_scaling", []),
        ("rope_parameters", {"rope_theta": 0}),
    ],
)
def test_a_senseless_value_is_refused_naming_the_field(field: str, value: object) -> None:
    refused = refusal({field: value})
    assert refused.reason == RefusalReason.INVALID_CONFIG
    shown = {"head_dim": "heads", "num_key_value_heads": "key-value heads"}.get(field, field)
    assert shown in refused.message or "rotary embedding" in refused.message


@pytest.mark.parametrize("missing", sorted(LLAMA))
def test_a_missing_size_is_refused_naming_the_field(missing: str) -> None:
    with pytest.raises(ModelRefused, match=missing):
        read_decoder({name: value for name, value in LLAMA.items() if name != missing}, "llama")


@pytest.mark.parametrize(
    "fields",
    [
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention"]},
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["chunked_attention"] * 2},
        {"use_sliding_window": False, "sliding_window": 8, "layer_types": ["sliding_attention"] * 2},
        {"use_sliding_window": True, "sliding_window": None, "layer_types": ["sliding_attention"] * 2},
    ],
)
def test_windows_that_contradict_one_another_are_refused(fields: dict[str, Any]) -> None:
    refused = refusal({**fields, "num_key_value_heads": 2}, "qwen2")
    assert refused.reason == RefusalReason.UNSUPPORTED_ATTENTION
    assert "layer_types" in refused.message


@pytest.mark.parametrize(
    ("fields", "max_context_length"),
    [
        ({"rope_theta": 10000, "rope_scaling": None}, 512),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 2048),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, 2048),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 1.0}}, 512),
    ],
)
def test_both_styles_of_rotary_settings_are_read(fields: dict[str, Any], max_context_length: int) -> None:
    rotary = read(**fields).rotary()
    assert rotary is not None
    assert rotary.max_context_length == max_context_length
