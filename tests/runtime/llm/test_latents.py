import inspect
import logging
from pathlib import Path

import pytest

from models.info import LatentInfo, ModelInfo
from models.llm_folder import inspect_llm
from runtime.llm import attention
from runtime.llm.latents import choose_latents
from runtime.llm.modeling import import_architecture
from tests.fakes.tiny_llm import build_tiny_model


@pytest.fixture
def deepseek(tmp_path: Path) -> ModelInfo:
    return inspect_llm(build_tiny_model(tmp_path, "deepseek_v2"))


def test_latents_are_kept_where_there_are_any_and_they_are_wanted(deepseek: ModelInfo, tmp_path: Path) -> None:
    assert deepseek.attention.latent == LatentInfo(size=24, rotated_size=8)
    assert choose_latents(deepseek, are_wanted=True) == deepseek.compressed() != deepseek
    assert deepseek.compressed().attention.part_sizes == [24, 8]
    assert choose_latents(deepseek, are_wanted=False) == deepseek
    llama = inspect_llm(build_tiny_model(tmp_path / "llama", "llama"))
    assert choose_latents(llama, are_wanted=True) == llama == llama.compressed()


def test_where_the_source_is_another_keys_stay_expanded_and_the_log_says_so(
    deepseek: ModelInfo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model_class, _ = import_architecture("deepseek_v2", "DeepseekV2ForCausalLM", attention.NAME, attention.attend)
    names = inspect.unwrap(model_class.forward).__globals__
    monkeypatch.setitem(names, "apply_rotary_emb", rotate_in_a_new_way)
    with caplog.at_level(logging.WARNING):
        assert choose_latents(deepseek, are_wanted=True) == deepseek
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["DeepseekV2ForCausalLM"]


def rotate_in_a_new_way(heads: list[float]) -> list[float]:
    return heads[::-1]
