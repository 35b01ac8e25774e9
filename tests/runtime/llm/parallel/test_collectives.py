from pathlib import Path
from typing import Any

import torch

from models.llm_folder import inspect_llm
from runtime.llm.loader import build_skeleton, load_weights
from runtime.llm.parallel.collectives import connect
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.division import divide, divided
from tests.fakes.tiny_llm import build_tiny_model


def hooked(directory: Path, share: Share) -> list[str]:
    """Names of the modules that tell others what they put out; nobody is there to be told."""
    info = inspect_llm(directory)
    skeleton: Any = build_skeleton(directory, info)
    division = divide(skeleton, info.attention, share)
    cpu = torch.device("cpu")
    own = divided(info, share)
    model = load_weights(skeleton, directory, own, dtype=torch.float32, device=cpu, cuts=division.cuts).model
    connect(model, division)
    return [name for name, module in model.named_modules() if module._forward_hooks]


def test_a_layer_tells_others_of_two_products_and_the_head_of_its_logits(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "llama")
    found = hooked(directory, Share(1, 2))
    of_a_layer = ["attention_output", "mlp.mlp_output"]
    assert found == [*(f"model.layers.{index}.{name}" for index in range(2) for name in of_a_layer), "lm_head"]


def test_layers_of_transformers_and_mixtures_do_so_too(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "qwen2_moe")
    found = hooked(directory, Share(0, 2))
    first = [f"model.layers.0.{name}" for name in ("attention_output", "mlp.experts", "mlp.shared_expert.down_proj")]
    second = [f"model.layers.1.{name}" for name in ("attention_output", "mlp.mlp_output")]
    assert found == [*first, *second, "lm_head"]


def test_alone_nobody_is_told(tmp_path: Path) -> None:
    assert not hooked(build_tiny_model(tmp_path, "llama"), Share())
