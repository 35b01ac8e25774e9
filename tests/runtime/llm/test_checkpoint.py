from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.refusal import ModelRefused
from runtime.llm.checkpoint import Checkpoint
from runtime.memory import resident_bytes

MIB = 1024 * 1024


def _tensors() -> dict[str, torch.Tensor]:
    return {
        "a": torch.randn(7, 5),
        "b": torch.randn(3, 2).bfloat16(),
        "c": torch.arange(5),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5).half(),
    }


def test_every_tensor_of_every_file_is_what_was_saved(tmp_path: Path) -> None:
    tensors = _tensors()
    save_file({"a": tensors.pop("a")}, tmp_path / "1.safetensors")
    save_file(tensors, tmp_path / "2.safetensors")
    checkpoint = Checkpoint(tmp_path, ["1.safetensors", "2.safetensors"])
    for file in ("1.safetensors", "2.safetensors"):
        for name, expected in load_file(tmp_path / file).items():
            found = checkpoint.tensor(name)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
    with pytest.raises(KeyError):
        checkpoint.tensor("d")


def test_tensors_are_views_that_take_memory_when_read_and_give_it_back(tmp_path: Path) -> None:
    save_file({"large": torch.ones(64 * MIB, dtype=torch.uint8)}, tmp_path / "w.safetensors")
    before = resident_bytes()
    checkpoint = Checkpoint(tmp_path, ["w.safetensors"])
    tensor = checkpoint.tensor("large")
    assert resident_bytes() - before < 8 * MIB
    assert int(tensor.sum()) == 64 * MIB
    assert resident_bytes() - before > 56 * MIB
    checkpoint.drop_pages(tensor)
    assert resident_bytes() - before < 8 * MIB
    assert int(tensor.sum()) == 64 * MIB, "dropped pages come back from the file"


def test_dropping_pages_of_a_small_or_foreign_tensor_changes_nothing(tmp_path: Path) -> None:
    save_file(_tensors(), tmp_path / "w.safetensors")
    checkpoint = Checkpoint(tmp_path, ["w.safetensors"])
    foreign = torch.ones(10_000)
    checkpoint.drop_pages(foreign)
    checkpoint.drop_pages(checkpoint.tensor("a"))
    checkpoint.drop_pages(checkpoint.tensor("empty"))
    assert torch.equal(foreign, torch.ones(10_000))


def test_a_malformed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelRefused):
        Checkpoint(tmp_path, ["w.safetensors"])
