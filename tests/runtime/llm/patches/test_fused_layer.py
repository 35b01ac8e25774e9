from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime.llm.patches.fused_layer import FusedLayer, fuse
from runtime.llm.request import Batch, ScheduledRequest
from tests.fakes.tiny_engine import TinyModel, make_request
from tests.fakes.tiny_llm import Architecture, build_tiny_model

ARCHITECTURES: list[Architecture] = [
    "llama", "qwen2", "qwen3", "mistral", "gemma", "mixtral", "qwen2_moe", "qwen3_moe", "starcoder2",
]  # fmt: skip

HALF_WINDOWED = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [*((name, {}) for name in ARCHITECTURES), ("qwen2", HALF_WINDOWED), ("qwen3", HALF_WINDOWED)],
)
def test_fused_layers_compute_what_those_of_transformers_do(
    architecture: Architecture, settings: dict[str, Any], tmp_path: Path
) -> None:
    fused = TinyModel(build_tiny_model(tmp_path, architecture, **settings))
    unfused = TinyModel(tmp_path, enable_patches=False)
    assert any(isinstance(module, FusedLayer) for module in fused.model.modules())
    request = make_request(list(range(3, 40)), num_logprobs=5)
    request.block_ids = list(range(1, 10))
    batch = Batch([ScheduledRequest(request, 37, True)])
    (with_fusion,), (without,) = (tiny.runner().execute(batch)[0].tokens for tiny in (fused, unfused))
    assert with_fusion.token_id == without.token_id
    assert [value for _, value in with_fusion.top] == pytest.approx([value for _, value in without.top], abs=1e-4)


def test_layers_of_another_family_stay_as_they_are(tmp_path: Path) -> None:
    class OtherLayer(nn.Module):
        pass

    tiny = TinyModel(build_tiny_model(tmp_path, "llama"), enable_patches=False)
    tiny.model.model.layers[1] = OtherLayer()
    layers = list(tiny.model.model.layers)
    assert not fuse(tiny.model, tiny.info.attention, lambda weight: None)
    assert list(tiny.model.model.layers) == layers


def test_biases_of_every_projection_are_kept(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama", attention_bias=True, mlp_bias=True)
    fused, unfused = TinyModel(directory), TinyModel(directory, enable_patches=False)
    request = make_request([5, 6, 7], num_logprobs=5)
    request.block_ids = [1]
    batch = Batch([ScheduledRequest(request, 3, True)])
    (with_fusion,), (without,) = (tiny.runner().execute(batch)[0].tokens for tiny in (fused, unfused))
    assert [value for _, value in with_fusion.top] == pytest.approx([value for _, value in without.top], abs=1e-4)


def test_a_layer_of_another_source_stays_as_it_is_and_the_log_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class LlamaDecoderLayer(nn.Module):
        """Of a later version: its name is the same."""

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return hidden_states + 1

    tiny = TinyModel(build_tiny_model(tmp_path, "llama"), enable_patches=False)
    layers = tiny.model.model.layers
    own = layers[1] = LlamaDecoderLayer()
    own.self_attn, own.input_layernorm = layers[0].self_attn, layers[0].input_layernorm
    own.post_attention_layernorm = layers[0].post_attention_layernorm
    assert not fuse(tiny.model, tiny.info.attention, lambda weight: None)
    assert layers[1] is own
    assert ["LlamaDecoderLayer" in record.getMessage() for record in caplog.records] == [True]
