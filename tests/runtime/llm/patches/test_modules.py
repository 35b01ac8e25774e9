"""Exchanging modules, without the kernels themselves: plain operations take their place."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from models.addons import adaptable_layers
from runtime.llm.adapters.places import find_places
from runtime.llm.attention_gather import Span
from runtime.llm.kernel_choice import Kernels
from runtime.llm.patches.gated_mlp import GatedMlp
from runtime.llm.patches.layer_operations import PLAIN, LayerOperations
from runtime.llm.patches.modules import patch
from runtime.llm.patches.norm import FusedNorm
from tests.fakes.tiny_engine import TinyModel
from tests.fakes.tiny_llm import Architecture, build_tiny_model

AS_IF_KERNELS = LayerOperations(*PLAIN)
NUM_TOKENS = 20

# How many modules of each kind a tiny model has.
PATCHED: dict[Architecture, tuple[int, int]] = {
    "gemma": (5, 2),
    "gemma2": (9, 2),
    "gemma3": (19, 3),
    "mixtral": (5, 0),
    "qwen2_moe": (5, 2),
    "qwen3_moe": (5, 0),
    "phi3": (5, 0),
    "stablelm": (0, 2),
    "deepseek_v2": (13, 3),
    "phi": (0, 0),
    "llama": (5, 2),
}


@pytest.mark.parametrize("architecture", PATCHED)
def test_a_patched_model_computes_what_it_did(architecture: Architecture, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, architecture)
    plain = TinyModel(directory, enable_patches=False)
    patched = TinyModel(directory, kernels=Kernels(AS_IF_KERNELS))
    kinds = [type(module) for module in patched.model.modules()]
    assert (kinds.count(FusedNorm), kinds.count(GatedMlp)) == PATCHED[architecture]
    token_ids = list(range(3, 3 + NUM_TOKENS))
    logits = [tiny.logits(token_ids, [Span(0, NUM_TOKENS, 0, [1, 2, 3])]) for tiny in (plain, patched)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)
    assert find_places(patched.model, adaptable_layers(directory)).keys() == set(adaptable_layers(directory))


def test_without_kernels_nothing_is_exchanged(tmp_path: Path) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, "gemma2"))
    modules = list(tiny.model.modules())
    patch(tiny.model, lambda weight: None, PLAIN)
    assert list(tiny.model.modules()) == modules


def test_a_class_of_another_source_stays_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    class GemmaRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.randn(8), requires_grad=False), 1e-6

        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return nn.functional.rms_norm(hidden_states, (8,), self.weight, self.eps)

    model = nn.Sequential(GemmaRMSNorm(), GemmaRMSNorm())
    modules = list(model)
    with caplog.at_level(logging.WARNING):
        patch(model, lambda weight: None, AS_IF_KERNELS)
    assert list(model) == modules
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["GemmaRMSNorm"]
