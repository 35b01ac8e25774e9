from typing import Any

import pytest

from models.architectures import ARCHITECTURES, DecoderConfig, listed_token_ids, read_decoder, read_decoder_config
from models.refusal import ModelRefused, RefusalReason

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def refusal(fields: dict[str, Any]) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        read_decoder_config({**LLAMA, **fields})
    assert refused.value.file == "config.json"
    return refused.value


def test_a_config_is_described_with_every_default_filled_in() -> None:
    described = read_decoder_config(LLAMA)
    assert described._replace(tensors={}) == DecoderConfig(
        name="LlamaForCausalLM",
        model_type="llama",
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_size=16,
        value_head_size=16,
        latent=None,
        max_context_length=512,
        sliding_window=None,
        full_attention_layers=[],
        tied_embeddings=False,
        eos_token_ids=[],
        embedding="model.embed_tokens.weight",
        head="lm_head.weight",
        tensors={},
        ignored_tensors=r"model.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    )
    assert len(described.tensors) == 3 + 2 * 9


def test_layers_without_a_window_are_named_only_where_others_have_one() -> None:
    windowed = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 2}
    config = {**LLAMA, **windowed, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    described = read_decoder_config(config)
    assert (described.sliding_window, described.full_attention_layers) == (8, [0])
    described = read_decoder_config({**config, "use_sliding_window": False})
    assert (described.sliding_window, described.full_attention_layers) == (None, [])


@pytest.mark.parametrize(
    "architecture",
    [
        "BloomForCausalLM",
        "FalconForCausalLM",
        "GPTJForCausalLM",
        "GPT2LMHeadModel",
        "MptForCausalLM",
        "DeepseekForCausalLM",
        "DeepseekV3ForCausalLM",
        "RWForCausalLM",
        "os.system",
        "llamaforcausallm",
    ],
)
def test_an_unsupported_architecture_is_refused_by_name_with_what_is_supported(architecture: str) -> None:
    refused = refusal({"architectures": [architecture]})
    assert refused.reason == RefusalReason.UNSUPPORTED_ARCHITECTURE
    assert architecture in refused.message
    assert all(name in refused.message for name in (*ARCHITECTURES, "LlavaForConditionalGeneration"))


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", ["LlamaForCausalLM"] * 2, [1], {"a": 1}])
def test_a_config_that_names_no_single_architecture_is_refused(architectures: object) -> None:
    assert refusal({"architectures": architectures}).reason == RefusalReason.INVALID_CONFIG


def test_a_model_type_of_another_architecture_is_refused() -> None:
    refused = refusal({"model_type": "mistral"})
    assert refused.reason == RefusalReason.INVALID_CONFIG
    assert "model_type" in refused.message


@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
def test_quantised_weights_are_refused_by_method(field: str) -> None:
    refused = refusal({field: {"quant_method": "awq", "bits": 4}})
    assert refused.reason == RefusalReason.UNSUPPORTED_QUANTIZATION
    assert "awq" in refused.message


def test_the_text_half_of_a_config_is_read_by_model_type() -> None:
    text = {name: value for name, value in LLAMA.items() if name not in {"architectures", "model_type"}}
    assert read_decoder(text, "llama").tensors() == read_decoder_config(LLAMA).tensors
    with pytest.raises(ModelRefused, match=r"opt.*llama"):
        read_decoder(text, "opt")


@pytest.mark.parametrize(("stated", "expected"), [(None, []), (7, [7]), ([7, 9], [7, 9])])
def test_end_tokens_are_one_or_many(stated: Any, expected: list[int]) -> None:
    assert listed_token_ids(stated) == expected
    assert read_decoder_config({**LLAMA, "eos_token_id": stated}).eos_token_ids == expected
