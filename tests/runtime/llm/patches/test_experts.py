"""Experts in place of transformers' own, in plain torch; `kernels/test_experts.py` has what runs on CUDA."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from runtime.llm.attention_gather import Span
from runtime.llm.patches.experts import Experts, experts_to_pack, patch_experts
from runtime.llm.patches.layer_operations import PLAIN
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import Architecture, build_tiny_model

# How many mixtures each has.
MIXTURES: dict[Architecture, int] = {"mixtral": 2, "qwen2_moe": 1, "qwen3_moe": 2, "deepseek_v2": 2}
NUM_TOKENS = 20


def num_experts_modules(model: nn.Module) -> int:
    return sum(isinstance(module, Experts) for module in model.modules())


def all_logits(tiny: TinyModel) -> torch.Tensor:
    return tiny.logits(list(range(3, 3 + NUM_TOKENS)), [Span(0, NUM_TOKENS, 0, [1, 2, 3])])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", MIXTURES)
def test_a_patched_model_computes_what_it_did_to_the_bit(
    architecture: Architecture, dtype: torch.dtype, tmp_path: Path
) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, architecture), enable_patches=False, dtype=dtype)
    assert num_experts_modules(tiny.model) == 0
    expected = all_logits(tiny)
    patch_experts(tiny.model, PLAIN)
    assert num_experts_modules(tiny.model) == MIXTURES[architecture]
    assert torch.equal(all_logits(tiny), expected)


@pytest.mark.parametrize("architecture", MIXTURES)
def test_packing_while_it_serves_changes_no_token(architecture: Architecture, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, architecture)
    tiny, unpatched = TinyModel(directory), TinyModel(directory, enable_patches=False)
    assert num_experts_modules(tiny.model) == MIXTURES[architecture]
    for _ in range(2):
        outputs = [
            token_ids(run(each.engine(), [make_request([5, 9, 12, 40]), make_request([7], request_id="other")]))
            for each in (tiny, unpatched)
        ]
        assert outputs[0] == outputs[1]
        while tiny.packing:
            tiny.packing.advance(1.0)


def test_a_class_of_another_source_stays_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, "mixtral"), enable_patches=False)

    class MixtralExperts(type(tiny.model.model.layers[0].mlp.experts)):  # type: ignore[misc]
        def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = super().forward(*arguments)
            return result * 1.1

    for layer in tiny.model.model.layers:
        layer.mlp.experts.__class__ = MixtralExperts
    with caplog.at_level(logging.WARNING):
        patch_experts(tiny.model, PLAIN)
    assert num_experts_modules(tiny.model) == 0
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["MixtralExperts"]


def test_an_activation_that_is_not_known_keeps_transformers_own(tmp_path: Path) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, "mixtral"), enable_patches=False)
    for layer in tiny.model.model.layers:
        layer.mlp.experts.act_fn = nn.ReLU()
    patch_experts(tiny.model, PLAIN)
    assert num_experts_modules(tiny.model) == 0


def test_a_model_without_mixtures_is_left_alone(tmp_path: Path) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, "llama"))
    patch_experts(tiny.model, PLAIN)
    assert experts_to_pack(tiny.model) == []
