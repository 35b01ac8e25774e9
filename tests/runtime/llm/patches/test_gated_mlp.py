from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from runtime.llm.patches.gated_mlp import GatedMlp, activation_of
from tests.fakes.tiny_llm import Architecture, build_tiny_model


def first_mlp(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).model.layers[0].mlp


@pytest.mark.parametrize(
    ("architecture", "settings", "activation"),
    [
        ("llama", {}, "silu"),
        ("llama", {"mlp_bias": True}, "silu"),
        ("llama", {"hidden_act": "gelu"}, "gelu"),
        ("gemma", {}, "gelu_tanh"),
        ("stablelm", {}, "silu"),
    ],
)
def test_it_computes_what_that_of_transformers_does(
    architecture: Architecture, settings: dict[str, Any], activation: str, tmp_path: Path
) -> None:
    mlp = first_mlp(build_tiny_model(tmp_path, architecture, **settings))
    inputs = torch.randn(1, 9, mlp.gate_proj.in_features)
    found = activation_of(mlp)
    assert found == activation
    expected = mlp(inputs)
    torch.testing.assert_close(GatedMlp(mlp, found, lambda weight: None)(inputs), expected)


def test_an_mlp_without_a_gate_or_with_another_activation_is_another_kind(tmp_path: Path) -> None:
    assert activation_of(first_mlp(build_tiny_model(tmp_path, "llama", hidden_act="relu"))) is None
    assert activation_of(nn.Linear(2, 2)) is None
