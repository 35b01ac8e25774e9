import math
from typing import Any

import pytest

from models.addon_config import AddonConfig, read_addon_config
from models.refusal import ModelRefused, RefusalReason

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "mlp.up_proj"]}
QUERY, KEY, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.11.mlp.up_proj"


def read(**changes: Any) -> AddonConfig:
    return read_addon_config(PLAIN | changes, rank_max=64)


def refusal(**changes: Any) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        read(**changes)
    assert refused.value.file == "adapter_config.json"
    return refused.value


def test_a_plain_config() -> None:
    config = read()
    assert (config.rank, config.scaling, config.base_model) == (16, 2.0, "")
    assert [config.adapts(module) for module in (QUERY, KEY, UP)] == [True, False, True]


def test_scale_is_alpha_over_the_rank_or_over_its_root() -> None:
    assert read(lora_alpha=8.5).scaling == 8.5 / 16
    assert read(use_rslora=True, r=8).scaling == 32 / math.sqrt(8)


def test_targets_are_whole_parts_at_the_end_of_a_name() -> None:
    config = read(target_modules=["proj", "up_proj", "self_attn.k_proj"])
    assert [config.adapts(module) for module in (QUERY, KEY, UP)] == [False, True, True]
    assert config.unmatched([QUERY, KEY, UP]) == ["proj"]


def test_every_linear_layer_but_some() -> None:
    config = read(target_modules="all-linear", exclude_modules=["layers.0.self_attn.q_proj"])
    assert [config.adapts(module) for module in (QUERY, KEY, UP)] == [False, True, True]
    assert config.unmatched([KEY]) == []


@pytest.mark.parametrize(("layers", "adapted"), [(11, [UP]), ([0, 3], [QUERY]), ([], []), (None, [QUERY, UP])])
def test_layers_to_transform_are_the_only_ones(layers: list[int] | int | None, adapted: list[str]) -> None:
    config = read(layers_to_transform=layers)
    assert [module for module in (QUERY, KEY, UP) if config.adapts(module)] == adapted


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 65}, "r: adapters of rank 65"),
        ({"bias": "all"}, "bias"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.down_proj"]}, "target_parameters"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"target_modules": r".*\.q_proj"}, "target_modules"),
        ({"exclude_modules": "all-linear"}, "exclude_modules"),
        ({"target_modules": [""]}, "target_modules"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    refused = refusal(**changes)
    assert refused.reason is RefusalReason.UNSUPPORTED_ADDON
    assert named in refused.message


@pytest.mark.parametrize(
    "changes",
    [{"r": 0}, {"r": True}, {"r": "16"}, {"r": None}, {"lora_alpha": 0}, {"lora_alpha": -1}, {"lora_alpha": 10**90},
     {"target_modules": None}, {"target_modules": [1]}, {"target_modules": {}}, {"peft_type": 3}, {"use_rslora": 1},
     {"layers_to_transform": ["1"]}, {"base_model_name_or_path": 1}],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    assert refusal(**changes).reason is RefusalReason.INVALID_CONFIG


def test_what_only_training_reads_and_what_nobody_knows_is_ignored() -> None:
    fields = {"lora_dropout": 0.1, "inference_mode": True, "init_lora_weights": "gaussian", "unsloth_fixed": True}
    assert read(**fields, modules_to_save=None, rank_pattern={}, loftq_config={}) == read()
