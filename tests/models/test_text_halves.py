import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.architectures import read_decoder_config
from models.llm_folder import inspect_llm
from models.refusal import ModelRefused, RefusalReason
from models.text_halves import has_unserved_half, served_config, text_name
from tests.fakes.safetensors_file import entry, join, split
from tests.fakes.tiny_gemma3 import build_tiny_gemma3
from tests.fakes.tiny_llm import build_tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_gemma3(tmp_path_factory.mktemp("gemma3"))


def config_of(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
    return config


def test_the_text_half_is_the_model_that_is_served(whole: Path) -> None:
    info = inspect_llm(whole)
    assert (info.architecture, info.model_type, info.vision) == ("Gemma3ForCausalLM", "gemma3_text", None)
    assert sum("text half" in warning for warning in info.warnings) == 1
    assert sum("vision_tower" in warning or "multi_modal" in warning for warning in info.warnings) == 1


def test_only_its_own_weights_count(whole: Path, tmp_path: Path) -> None:
    alone = inspect_llm(build_tiny_model(tmp_path, "gemma3"))
    assert inspect_llm(whole).num_parameters == alone.num_parameters


def test_a_model_that_reads_text_only_is_its_own_half(tmp_path: Path) -> None:
    config = config_of(build_tiny_model(tmp_path, "gemma3"))
    assert not has_unserved_half(config)
    assert served_config(config) is config


def test_what_a_nested_config_leaves_out_is_what_transformers_assumes() -> None:
    # As released with Gemma 3 4B.
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "text_config": {**text, "model_type": "gemma3_text", "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    }
    described = read_decoder_config(served_config(config))
    assert described.vocab_size == 262_208
    assert (described.num_heads, described.num_kv_heads, described.head_size) == (8, 4, 256)
    assert (described.max_context_length, described.eos_token_ids) == (131_072, [1, 106])
    assert (described.sliding_window, described.full_attention_layers) == (1024, [5, 11, 17, 23, 29])


@pytest.mark.parametrize("text_config", [None, [], "gemma3_text"])
def test_a_missing_text_half_is_refused(whole: Path, text_config: object) -> None:
    with pytest.raises(ModelRefused, match="text_config"):
        served_config({**config_of(whole), "text_config": text_config})


def test_quantised_weights_of_the_whole_are_refused(whole: Path) -> None:
    with pytest.raises(ModelRefused, match="awq"):
        read_decoder_config(served_config({**config_of(whole), "quantization_config": {"quant_method": "awq"}}))


def test_other_tensors_are_refused_as_everywhere(whole: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(whole, tmp_path / "copy"))
    weights = directory / "model.safetensors"
    header, data = split(weights)
    join(weights, header | {"audio_tower.weight": entry("F32", [2], len(data), len(data) + 8)}, data + bytes(8))
    with pytest.raises(ModelRefused) as refused:
        inspect_llm(directory)
    assert refused.value.reason == RefusalReason.UNEXPECTED_TENSOR


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("language_model.model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("model.norm.weight", "model.norm.weight"),
        ("vision_tower.head.probe", "vision_tower.head.probe"),
    ],
)
def test_names_lose_the_prefix_of_the_half(stored: str, name: str) -> None:
    assert text_name(stored) == name
