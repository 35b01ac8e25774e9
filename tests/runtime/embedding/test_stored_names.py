from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime.embedding.stored_names import StoredNames
from runtime.llm.checkpoint import Checkpoint


def _stored(directory: Path, tensors: dict[str, torch.Tensor], prefix: str) -> StoredNames:
    save_file(tensors, directory / "model.safetensors")
    return StoredNames(Checkpoint(directory, ["model.safetensors"]), prefix)


def test_parameters_are_found_with_and_without_the_name_of_the_model_around_them(tmp_path: Path) -> None:
    names = _stored(tmp_path, {"bert.a.weight": torch.ones(1), "b.weight": torch.zeros(1)}, "bert")
    assert names.read("a.weight").item() == 1
    assert names.read("bert.b.weight").item() == 0
    with pytest.raises(KeyError):
        names.read("c.weight")


def test_nomics_first_names_lead_to_the_same_parameters(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(6, 2)
    names = _stored(
        tmp_path,
        {
            "emb_ln.weight": torch.ones(2),
            "encoder.layers.3.attn.Wqkv.weight": whole,
            "encoder.layers.3.mlp.fc11.weight": torch.full((1,), 11.0),
            "encoder.layers.3.mlp.fc12.weight": torch.full((1,), 12.0),
            "encoder.layers.3.norm1.bias": torch.full((1,), 1.0),
        },
        "nomic_bert",
    )
    assert names.read("embeddings.LayerNorm.weight").shape == (2,)
    assert torch.equal(names.read("layers.3.self_attn.q_proj.weight"), whole[:2])
    assert torch.equal(names.read("layers.3.self_attn.v_proj.weight"), whole[4:])
    assert names.read("layers.3.mlp.up_proj.weight").item() == 11
    assert names.read("layers.3.mlp.gate_proj.weight").item() == 12
    assert names.read("nomic_bert.layers.3.post_attention_layernorm.bias").item() == 1
