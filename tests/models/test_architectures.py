from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.architectures import ARCHITECTURES, DecoderConfig, expected_tensors, read_decoder_config
from models.refusal import ModelRefused, RefusalReason

MINIMAL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def config_of(architecture: str, **fields: Any) -> dict[str, Any]:
    model_type = ARCHITECTURES[architecture].model_type
    return {**MINIMAL, "architectures": [architecture], "model_type": model_type, "num_key_value_heads": 2, **fields}


def read(architecture: str = "LlamaForCausalLM", **fields: Any) -> DecoderConfig:
    return read_decoder_config(config_of(architecture, **fields))


def refusal(fields: dict[str, Any], architecture: str = "LlamaForCausalLM") -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        read(architecture, **fields)
    assert refused.value.file == "config.json"
    return refused.value


def build_reference(config: dict[str, Any]) -> Any:
    """The model that transformers makes of a config, without memory for its weights."""
    fields = {name: value for name, value in config.items() if name not in {"architectures", "model_type"}}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **fields))


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [(name, {}) for name in ARCHITECTURES]
    + [(name, {"head_dim": 24, "num_key_value_heads": 1}) for name in ARCHITECTURES]
    + [(name, {"tie_word_embeddings": True}) for name in ARCHITECTURES]
    + [(name, {"attention_bias": True, "mlp_bias": True}) for name in ARCHITECTURES],
)
def test_expected_tensors_are_those_of_the_reference(architecture: str, fields: dict[str, Any]) -> None:
    config = config_of(architecture, **fields)
    reference = dict(build_reference(config).named_parameters())
    assert expected_tensors(read_decoder_config(config)) == {
        name: tuple(parameter.shape) for name, parameter in reference.items()
    }


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("LlamaForCausalLM", {"sliding_window": 8}),
        ("MistralForCausalLM", {"sliding_window": 8}),
        ("MistralForCausalLM", {"sliding_window": None}),
        ("MistralForCausalLM", {}),
        ("Qwen2ForCausalLM", {"sliding_window": 8}),
        ("Qwen2ForCausalLM", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}),
        ("Qwen2ForCausalLM", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}),
        ("Qwen3ForCausalLM", {"use_sliding_window": True, "max_window_layers": 0}),
        ("Qwen3ForCausalLM", {"use_sliding_window": True, "layer_types": ["full_attention"] * 2}),
        (
            "Qwen3ForCausalLM",
            {"sliding_window": 8, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 2},
        ),
    ],
)
def test_the_window_is_that_of_the_reference(architecture: str, fields: dict[str, Any]) -> None:
    config = config_of(architecture, **fields)
    model = build_reference(config)
    if architecture == "MistralForCausalLM":
        windows = {model.config.sliding_window}
    else:
        windows = {getattr(layer.self_attn, "sliding_window", None) for layer in model.model.layers}
    assert windows == {read_decoder_config(config).sliding_window}


@pytest.mark.parametrize(
    "fields",
    [
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["sliding_attention"]},
        {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["chunked_attention"] * 2},
        {"use_sliding_window": False, "sliding_window": 8, "layer_types": ["sliding_attention"] * 2},
    ],
)
def test_windows_that_differ_by_layer_are_refused(fields: dict[str, Any]) -> None:
    refused = refusal(fields, "Qwen2ForCausalLM")
    assert refused.reason == RefusalReason.UNSUPPORTED_ATTENTION


def test_key_value_heads_default_to_all_heads() -> None:
    assert read_decoder_config(MINIMAL).num_kv_heads == 4
    assert read(num_key_value_heads=None).num_kv_heads == 4


@pytest.mark.parametrize(
    "architectures", [["GPT2LMHeadModel"], ["Qwen3MoeForCausalLM"], ["os.system"], ["llamaforcausallm"]]
)
def test_an_unsupported_architecture_is_refused_by_name(architectures: list[str]) -> None:
    refused = refusal({"architectures": architectures})
    assert refused.reason == RefusalReason.UNSUPPORTED_ARCHITECTURE
    assert architectures[0] in refused.message
    assert "LlamaForCausalLM" in refused.message


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", ["LlamaForCausalLM"] * 2, [1], {"a": 1}])
def test_a_config_that_names_no_single_architecture_is_refused(architectures: object) -> None:
    assert refusal({"architectures": architectures}).reason == RefusalReason.INVALID_CONFIG


@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
def test_quantised_weights_are_refused_by_method(field: str) -> None:
    refused = refusal({field: {"quant_method": "awq", "bits": 4}})
    assert refused.reason == RefusalReason.UNSUPPORTED_QUANTIZATION
    assert "awq" in refused.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "mistral"),
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
        ("rope_parameters", {"rope_theta": "10000"}),
        ("rope_parameters", {"full_attention": {"rope_type": "default"}}),
        ("rope_scaling", {"rope_type": "linear"}),
        ("rope_scaling", {"rope_type": "linear", "factor": -1}),
        ("rope_scaling", {"rope_type": "linear", "factor": True}),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": "128"}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}),
    ],
)
def test_a_senseless_value_is_refused_naming_the_field(field: str, value: object) -> None:
    refused = refusal({field: value})
    assert refused.reason == RefusalReason.INVALID_CONFIG
    shown = {"head_dim": "heads", "num_key_value_heads": "key-value heads"}.get(field, field)
    assert shown in refused.message or "rotary embedding" in refused.message


@pytest.mark.parametrize("missing", sorted(MINIMAL.keys() - {"architectures", "model_type"}))
def test_a_missing_size_is_refused_naming_the_field(missing: str) -> None:
    with pytest.raises(ModelRefused, match=missing):
        read_decoder_config({name: value for name, value in MINIMAL.items() if name != missing})


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope", "su", "proportional", ["default"], None])
@pytest.mark.parametrize(
    "style", [("rope_scaling", "type"), ("rope_scaling", "rope_type"), ("rope_parameters", "rope_type")]
)
def test_embeddings_that_couple_requests_or_are_unknown_are_refused(style: tuple[str, str], rope_type: object) -> None:
    field, key = style
    refused = refusal({field: {key: rope_type, "factor": 2.0}})
    assert refused.reason == RefusalReason.UNSUPPORTED_ATTENTION
    assert str(rope_type)[:10] in refused.message


@pytest.mark.parametrize(
    "fields", [{"partial_rotary_factor": 0.5}, {"rope_parameters": {"partial_rotary_factor": 0.25}}]
)
def test_partial_rotation_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(fields).reason == RefusalReason.UNSUPPORTED_ATTENTION


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("fields", "max_context_length"),
    [
        ({"rope_theta": 5e5}, 512),
        ({"rope_theta": 10000, "rope_scaling": None}, 512),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, 512),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}, 512),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}}, 512),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 1.0}}, 512),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 2048),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}, 512),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}}, 1024),
    ],
)
def test_both_styles_of_rotary_settings_are_read(fields: dict[str, Any], max_context_length: int) -> None:
    assert read(**fields).max_context_length == max_context_length


@pytest.mark.parametrize(("stated", "expected"), [(None, []), (7, [7]), ([7, 9], [7, 9])])
def test_end_tokens_are_one_or_many(stated: object, expected: list[int]) -> None:
    assert read(eos_token_id=stated).eos_token_ids == expected
