from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime.llm.patches.fused_layer import RmsNorm, fuse
from runtime.llm.request import Batch, ScheduledRequest
from tests.fakes.tiny_engine import TinyModel, make_request
from tests.fakes.tiny_llm import Architecture, build_tiny_model

ARCHITECTURES: list[Architecture] = ["llama", "qwen2", "qwen3", "mistral"]


HALF_WINDOWED = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [*((name, {}) for name in ARCHITECTURES), ("qwen2", HALF_WINDOWED), ("qwen3", HALF_WINDOWED)],
)
def test_fused_layers_compute_what_those_of_transformers_do(
    architecture: Architecture, settings: dict[str, Any], tmp_path: Path
) -> None:
    fused = TinyModel(build_tiny_model(tmp_path, architecture, **settings))
    unfused = TinyModel(tmp_path, is_fused=False)
    request = make_request(list(range(3, 40)), num_logprobs=5)
    request.block_ids = list(range(1, 10))
    batch = Batch([ScheduledRequest(request, 37, True)])
    (with_fusion,), (without,) = (tiny.runner().execute(batch)[0].tokens for tiny in (fused, unfused))
    assert with_fusion.token_id == without.token_id
    assert [value for _, value in with_fusion.top] == pytest.approx([value for _, value in without.top], abs=1e-4)


def test_a_norm_is_that_of_transformers_to_the_bit(tmp_path: Path) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, "llama"), is_fused=False)
    norm = tiny.model.model.norm
    for dtype in (torch.float32, torch.bfloat16):
        inputs = torch.randn(1, 9, norm.weight.shape[0], dtype=dtype)
        assert torch.equal(RmsNorm(norm.to(dtype))(inputs), norm(inputs))


def test_layers_of_another_family_stay_as_they_are(tmp_path: Path) -> None:
    class OtherLayer(nn.Module):
        pass

    tiny = TinyModel(build_tiny_model(tmp_path, "llama"), is_fused=False)
    tiny.model.model.layers[1] = OtherLayer()
    layers = list(tiny.model.model.layers)
    assert not fuse(tiny.model, tiny.info.attention, lambda weight: None)
    assert list(tiny.model.model.layers) == layers


def test_biases_of_every_projection_are_kept(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama", attention_bias=True, mlp_bias=True)
    fused, unfused = TinyModel(directory), TinyModel(directory, is_fused=False)
    request = make_request([5, 6, 7], num_logprobs=5)
    request.block_ids = [1]
    batch = Batch([ScheduledRequest(request, 3, True)])
    (with_fusion,), (without,) = (tiny.runner().execute(batch)[0].tokens for tiny in (fused, unfused))
    assert [value for _, value in with_fusion.top] == pytest.approx([value for _, value in without.top], abs=1e-4)
