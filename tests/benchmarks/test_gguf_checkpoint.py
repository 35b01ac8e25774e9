"""A checkpoint as llama.cpp wants it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.gguf_checkpoint import gguf_name, read_bfloat16


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
        ("model.layers.11.self_attn.q_proj.bias", "blk.11.attn_q.bias"),
        ("model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
    ],
)
def test_tensors_have_llama_cpp_s_names(name: str, expected: str) -> None:
    assert gguf_name(name) == expected


def test_numbers_are_read_as_they_are_stored(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4).bfloat16(), "b": torch.randn(5).bfloat16()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    read = read_bfloat16(tmp_path / "model.safetensors")

    assert {name: array.tolist() for name, array in read.items()} == {
        name: (tensor.view(torch.int16).int() & 0xFFFF).tolist() for name, tensor in tensors.items()
    }


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")

    with pytest.raises(AssertionError, match="a"):
        read_bfloat16(tmp_path / "model.safetensors")
