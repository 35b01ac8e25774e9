import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.llm_folder import inspect_llm
from models.refusal import ModelRefused, RefusalReason
from runtime.llm.fp8 import FP8, SMALLEST_STEP, quantise_rows
from runtime.quantiser.quantise import quantise, quantise_weight
from tests.fakes.tiny_fp8 import quantise_folder
from tests.fakes.tiny_llm import Architecture, build_tiny_model
from tests.fakes.tiny_vlm import build_tiny_vlm


def _quantise(source: Path, target: Path, shard_bytes: int = 30_000) -> list[tuple[int, int]]:
    """What the daemon makes of it: a whole folder."""
    target.mkdir(exist_ok=True)
    told: list[tuple[int, int]] = []
    info = inspect_llm(source)
    quantise(source, info.file_sha256, target, lambda *progress: told.append(progress), shard_bytes)
    for name in info.file_sha256:
        if not (target / name).exists() and not name.startswith("model"):
            shutil.copy(source / name, target / name)
    return told


def _load(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox", "mixtral", "phi3"])
def test_a_model_becomes_one_that_is_served_as_it_is(tmp_path: Path, architecture: Architecture) -> None:
    source = build_tiny_model(tmp_path / "source", architecture, dtype="bfloat16")
    known = inspect_llm(source)
    told = _quantise(source, tmp_path / "target")
    found = inspect_llm(tmp_path / "target")
    assert found.fp8 is not None
    assert found.fp8.layout == "row"
    assert found.fp8.num_staying_parameters == found.fp8.num_parameters > 0, "nothing loses what it would not gain by"
    assert (found.num_parameters, found.dtype) == (known.num_parameters, known.dtype)
    assert found.weight_bytes < known.weight_bytes
    assert found.warnings == known.warnings
    assert told[-1] == (found.weight_bytes, found.weight_bytes)
    assert told == sorted(told)


def test_every_number_is_near_and_what_is_no_product_stays(tmp_path: Path) -> None:
    source = build_tiny_model(tmp_path / "source", "llama", dtype="bfloat16")
    _quantise(source, tmp_path / "target")
    before, after = _load(source), _load(tmp_path / "target")
    for name, tensor in before.items():
        if after[name].dtype is not FP8:
            assert torch.equal(after[name], tensor)
            assert "layers" not in name or tensor.dim() == 1
            continue
        scale = after[f"{name}_scale"]
        bound = torch.maximum(tensor.float().abs() / 16, scale * SMALLEST_STEP / 2) * 1.0001
        assert ((after[name].float() * scale - tensor.float()).abs() <= bound).all()
    ignored = json.loads((tmp_path / "target" / "config.json").read_text())["quantization_config"]["ignore"]
    assert ignored == ["lm_head", "model.embed_tokens"]


def test_large_weights_are_quantised_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.quantiser.quantise._CHUNK_NUMBERS", 100)
    weight = torch.randn(37, 48)
    stored, scale = quantise_weight("w", weight)
    expected, expected_scale = quantise_rows(weight)
    assert torch.equal(stored.float(), expected.float())
    assert torch.equal(scale, expected_scale)


def test_an_attempt_goes_on_where_another_was_killed(tmp_path: Path) -> None:
    source = build_tiny_model(tmp_path / "source", "llama")
    _quantise(source, tmp_path / "whole")
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", killed)
    shards = sorted(killed.glob("*.safetensors"))
    assert len(shards) > 2
    kept = shards[0].stat().st_ino
    shards[1].rename(f"{shards[1]}.part")
    for path in (*shards[2:], killed / "config.json"):
        path.unlink()
    _quantise(source, killed)
    assert shards[0].stat().st_ino == kept
    for path in (tmp_path / "whole").iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes()
    assert len(list(killed.iterdir())) == len(list((tmp_path / "whole").iterdir()))


def _refusal(source: Path, tmp_path: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        _quantise(source, tmp_path / "refused")
    assert refused.value.reason == RefusalReason.UNSUPPORTED_QUANTIZATION
    assert not (tmp_path / "refused" / "config.json").exists(), "which would make it a model"
    return refused.value


def test_what_cannot_be_quantised_is_refused_with_the_reason(tmp_path: Path) -> None:
    plain = build_tiny_model(tmp_path / "plain", "llama")
    assert "already" in _refusal(quantise_folder(plain, tmp_path / "quantised", "row"), tmp_path).message
    assert "images" in _refusal(build_tiny_vlm(tmp_path / "vlm", "llava"), tmp_path).message
    odd = build_tiny_model(tmp_path / "odd", "llama", hidden_size=36, head_dim=6)
    assert "no weights" in _refusal(odd, tmp_path).message
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"][3, 5] = torch.inf
    save_file(tensors, broken / "model.safetensors")
    assert "down_proj" in _refusal(broken, tmp_path).message
