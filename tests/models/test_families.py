"""Every family as transformers writes it: the same tensors, windows and sizes, whatever its options."""

import math
from pathlib import Path
from typing import Any

import pytest

from models.architectures import DecoderConfig, read_decoder_config
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.tiny_llm import ARCHITECTURES, Architecture
from tests.models.reference import saved
from tests.models.released import RELEASED

ODD_HEADS = {"head_dim": 24, "num_key_value_heads": 1}
BIASES = {"attention_bias": True, "mlp_bias": True}
DENSE: list[Architecture] = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"]


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [(name, {}) for name in ARCHITECTURES]
    + [(name, {"tie_word_embeddings": True}) for name in ARCHITECTURES]
    + [(name, ODD_HEADS) for name in DENSE]
    + [(name, BIASES) for name in (*DENSE, "gpt_neox")]
    + [
        ("llama", {"num_key_value_heads": None}),
        ("phi", {"qk_layernorm": False, "num_key_value_heads": 2}),
        ("phi3", {"num_key_value_heads": None}),
        ("stablelm", {"use_qkv_bias": False, "qk_layernorm": False, "use_parallel_residual": True}),
        ("gpt_neox", {"attention_bias": False, "use_parallel_residual": False}),
        ("gpt_bigcode", {"multi_query": False, "n_inner": None}),
        ("starcoder2", {"use_bias": False, "head_dim": 24}),
    ],
)
def test_tensors_are_those_that_transformers_stores(
    architecture: Architecture, fields: dict[str, Any], tmp_path: Path
) -> None:
    config, stored = saved(tmp_path, architecture, **fields)
    read = read_decoder_config(config)
    assert read.tensors == stored
    assert read.tied_embeddings == (read.head not in stored)


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_have_as_many_parameters_as_their_makers_say(name: str) -> None:
    shapes = read_decoder_config(RELEASED[name].config).tensors.values()
    assert sum(math.prod(shape) for shape in shapes) == RELEASED[name].num_parameters


@pytest.mark.parametrize(
    ("architecture", "fields", "windows"),
    [
        ("llama", {"sliding_window": 8}, [None, None]),
        ("mistral", {"sliding_window": 8}, [8, 8]),
        ("mistral", {"sliding_window": None}, [None, None]),
        ("qwen2", {"sliding_window": 8}, [None, None]),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}, [8, 8]),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}, [None, 8]),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}, [None, None]),
        (
            "qwen3",
            {"sliding_window": 8, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"]},
            [8, None],
        ),
        ("gemma", {}, [None, None]),
        ("gemma2", {}, [8, None]),
        ("gemma3", {}, [8, 8, None]),
        ("gemma3", {"sliding_window_pattern": 2}, [8, None, 8]),
        ("phi3", {"sliding_window": None}, [None, None]),
        ("phi3", {}, [16, 16]),
        ("starcoder2", {}, [8, 8]),
        ("starcoder2", {"sliding_window": None}, [None, None]),
        ("gpt_bigcode", {}, [None, None]),
    ],
)
def test_windows_are_those_of_the_reference(
    architecture: Architecture, fields: dict[str, Any], windows: list[int | None], tmp_path: Path
) -> None:
    config, _ = saved(tmp_path, architecture, **fields)
    assert windows_of(read_decoder_config(config)) == windows
    # Without what transformers 5 spells out, the family's own rule gives the same.
    config.pop("layer_types", None)
    assert windows_of(read_decoder_config({**config, **fields})) == windows


def windows_of(config: DecoderConfig) -> list[int | None]:
    return [
        None if index in config.full_attention_layers else config.sliding_window for index in range(config.num_layers)
    ]


def test_learned_positions_end_where_their_table_ends(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, "gpt_bigcode", n_positions=48)
    assert read_decoder_config(config).max_context_length == 48
    old_names = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 48}
    renamed = {name: value for name, value in config.items() if not name.startswith("n_")} | old_names
    assert read_decoder_config({**renamed, "n_inner": 128}) == read_decoder_config(config)


@pytest.mark.parametrize(
    ("architecture", "fields", "reason"),
    [
        ("gemma", {"use_bidirectional_attention": True}, RefusalReason.UNSUPPORTED_ATTENTION),
        ("gpt_bigcode", {"add_cross_attention": True}, RefusalReason.UNSUPPORTED_ATTENTION),
        ("gemma2", {"sliding_window": None}, RefusalReason.UNSUPPORTED_ATTENTION),
        ("gemma3", {"rope_parameters": {"rope_type": "default"}}, RefusalReason.INVALID_CONFIG),
        ("gemma3", {"rope_parameters": {"full_attention": 3}}, RefusalReason.INVALID_CONFIG),
        ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, RefusalReason.UNSUPPORTED_ATTENTION),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, RefusalReason.INVALID_CONFIG),
        ("gpt_neox", {"hidden_act": "mish"}, RefusalReason.INVALID_CONFIG),
        ("stablelm", {"head_dim": 32}, RefusalReason.INVALID_CONFIG),
        ("mistral", {"num_key_value_heads": 3}, RefusalReason.INVALID_CONFIG),
        ("llama", {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 16}, RefusalReason.INVALID_CONFIG),
    ],
)
def test_what_a_family_cannot_do_here_is_refused(
    architecture: Architecture, fields: dict[str, Any], reason: RefusalReason, tmp_path: Path
) -> None:
    config, _ = saved(tmp_path, architecture)
    with pytest.raises(ModelRefused) as refused:
        read_decoder_config({**config, **fields})
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "architecture", ["mistral", "qwen2", "gemma", "stablelm", "starcoder2", "mixtral", "qwen3_moe"]
)
def test_a_number_of_key_value_heads_that_transformers_would_guess_must_be_stated(
    architecture: Architecture, tmp_path: Path
) -> None:
    config, _ = saved(tmp_path, architecture)
    del config["num_key_value_heads"]
    with pytest.raises(ModelRefused, match="num_key_value_heads"):
        read_decoder_config(config)


def test_phi3_takes_early_names_of_longrope(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, "phi3", original_max_position_embeddings=128)
    del config["rope_parameters"]
    for name in ("su", "yarn", "longrope"):
        scaling = {"type": name, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
        assert read_decoder_config({**config, "rope_scaling": scaling}).max_context_length == 512
