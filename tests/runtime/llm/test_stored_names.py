from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from runtime.llm.checkpoint import Checkpoint
from runtime.llm.stored_names import is_stacked, read_stacked, stored_name
from tests.fakes.text_model import text_model_info


@pytest.mark.parametrize(
    ("model_type", "name", "stored"),
    [
        ("llama", "lm_head.weight", "lm_head.weight"),
        ("gpt_neox", "lm_head.weight", "embed_out.weight"),
        ("gpt_neox", "gpt_neox.layers.0.mlp.dense_h_to_4h.bias", "gpt_neox.layers.0.mlp.dense_h_to_4h.bias"),
        ("mixtral", "model.layers.3.mlp.gate.weight", "model.layers.3.block_sparse_moe.gate.weight"),
        ("qwen2_moe", "model.layers.3.mlp.gate.weight", "model.layers.3.mlp.gate.weight"),
    ],
)
def test_few_parameters_are_stored_under_another_name(model_type: str, name: str, stored: str) -> None:
    assert stored_name(name, model_type) == stored


def test_only_experts_are_stacked() -> None:
    assert is_stacked("model.layers.0.mlp.experts.gate_up_proj")
    assert is_stacked("model.layers.0.mlp.experts.down_proj")
    assert not is_stacked("model.layers.0.mlp.gate_up_proj.weight")
    assert not is_stacked("model.layers.0.mlp.shared_experts.down_proj.weight")


@pytest.mark.parametrize(
    ("model_type", "path", "names"),
    [
        ("mixtral", "layers.0.block_sparse_moe.experts", ("w1", "w3", "w2")),
        ("deepseek_v2", "layers.0.mlp.experts", ("gate_proj", "up_proj", "down_proj")),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_are_read_into_their_places(
    model_type: str, path: str, names: tuple[str, str, str], dtype: torch.dtype, tmp_path: Path
) -> None:
    gate, up, down = names
    experts = [{gate: torch.randn(5, 3), up: torch.randn(5, 3), down: torch.randn(3, 5)} for _ in range(4)]
    stored = {f"{path}.{i}.{name}.weight": tensor for i, own in enumerate(experts) for name, tensor in own.items()}
    save_file(stored, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path, ["model.safetensors"])
    gate_up, downs = torch.empty(4, 10, 3, dtype=dtype), torch.empty(4, 3, 5, dtype=dtype)
    info = msgspec.structs.replace(text_model_info(vocab_size=1, eos_token_ids=[]), model_type=model_type)
    read_stacked(checkpoint, "layers.0.mlp.experts.gate_up_proj", info, gate_up)
    read_stacked(checkpoint, "layers.0.mlp.experts.down_proj", info, downs)
    assert torch.equal(gate_up, torch.stack([torch.cat((own[gate], own[up])) for own in experts]).to(dtype))
    assert torch.equal(downs, torch.stack([own[down] for own in experts]).to(dtype))
