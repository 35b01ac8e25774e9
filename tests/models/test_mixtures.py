"""Mixtures of experts as transformers stores them, and DeepSeek V2's expanded keys and values."""

from pathlib import Path
from typing import Any

import pytest

from models.architectures import read_decoder_config
from models.refusal import ModelRefused
from tests.fakes.tiny_llm import Architecture
from tests.models.reference import saved
from tests.models.test_families import windows_of

WINDOW = {"use_sliding_window": True, "sliding_window": 8, "num_hidden_layers": 4}


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("mixtral", {"head_dim": 24, "num_local_experts": 3}),
        ("qwen2_moe", {"qkv_bias": False, "mlp_only_layers": None, "decoder_sparse_step": 2}),
        ("qwen3_moe", {"attention_bias": True, "mlp_only_layers": [0]}),
        ("deepseek_v2", {"q_lora_rank": None, "first_k_dense_replace": 0}),
        ("deepseek_v2", {"attention_bias": True, "mlp_bias": True, "first_k_dense_replace": 3}),
    ],
)
def test_tensors_are_those_that_transformers_stores(
    architecture: Architecture, fields: dict[str, Any], tmp_path: Path
) -> None:
    config, stored = saved(tmp_path, architecture, **fields)
    assert read_decoder_config(config).tensors == stored


@pytest.mark.parametrize(
    ("architecture", "fields", "windows"),
    [
        ("mixtral", {}, [None, None]),
        ("mixtral", {"sliding_window": 8}, [8, 8]),
        ("qwen2_moe", {"sliding_window": 8}, [None, None]),
        ("qwen2_moe", {**WINDOW, "max_window_layers": 3}, [8, None, 8, None]),
        ("qwen3_moe", WINDOW, [8, 8, 8, 8]),
        ("qwen3_moe", {"sliding_window": 8}, [None, None]),
    ],
)
def test_windows_are_those_of_the_reference(
    architecture: Architecture, fields: dict[str, Any], windows: list[int | None], tmp_path: Path
) -> None:
    config, _ = saved(tmp_path, architecture, **fields)
    assert windows_of(read_decoder_config(config)) == windows
    config.pop("layer_types", None)
    assert windows_of(read_decoder_config(config)) == windows


def test_compressed_attention_is_kept_expanded(tmp_path: Path) -> None:
    read = read_decoder_config(saved(tmp_path, "deepseek_v2", num_key_value_heads=2)[0])
    assert (read.num_kv_heads, read.head_size, read.value_head_size) == (4, 24, 12)


@pytest.mark.parametrize(
    ("architecture", "widest"), [("mixtral", 64), ("qwen2_moe", 128), ("qwen3_moe", 128), ("deepseek_v2", 128)]
)
def test_the_widest_mlp_that_a_token_passes(architecture: Architecture, widest: int, tmp_path: Path) -> None:
    config, _ = saved(tmp_path, architecture)
    assert read_decoder_config(config).intermediate_size == widest


def test_shared_experts_count_together(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, "deepseek_v2", moe_intermediate_size=96)
    assert read_decoder_config(config).intermediate_size == 192


@pytest.mark.parametrize(
    ("architecture", "fields", "named"),
    [
        ("mixtral", {"num_experts_per_tok": 5}, "num_experts_per_tok"),
        ("mixtral", {"num_local_experts": 0}, "num_local_experts"),
        ("qwen3_moe", {"num_local_experts": 2000}, "num_experts"),
        ("mixtral", {"num_local_experts": 1024, "num_hidden_layers": 1024}, "experts"),
        ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob"),
        ("deepseek_v2", {"scoring_func": "sigmoid"}, "scoring_func"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method"),
        ("deepseek_v2", {"topk_method": "group_limited_greedy"}, "topk_group"),
        ("deepseek_v2", {"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 1}, "topk_group"),
        ("deepseek_v2", {"num_experts_per_tok": None}, "num_experts_per_tok"),
    ],
)
def test_what_cannot_be_routed_is_refused_naming_the_field(
    architecture: Architecture, fields: dict[str, Any], named: str, tmp_path: Path
) -> None:
    config, _ = saved(tmp_path, architecture)
    with pytest.raises(ModelRefused, match=named):
        read_decoder_config({**config, **fields})
