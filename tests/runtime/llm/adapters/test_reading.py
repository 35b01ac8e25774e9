from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.addons import adaptable_layers, inspect_addon
from models.llm_folder import inspect_llm
from runtime.engine import LoadRefused
from runtime.llm.adapters.adapter import LoraAdapter
from runtime.llm.adapters.places import find_places
from runtime.llm.adapters.reading import BaseModel, read_adapter
from runtime.llm.loader import build_skeleton, load_weights
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_llm import build_tiny_model

CPU = torch.device("cpu")


def load_base(directory: Path, dtype: torch.dtype = torch.float32) -> BaseModel:
    info = inspect_llm(directory)
    model = load_weights(build_skeleton(directory, info), directory, info, dtype=dtype, device=CPU).model
    return BaseModel(directory, info, find_places(model, adaptable_layers(directory)), dtype, CPU)


def read(directory: Path, base: BaseModel, rank_max: int = 64) -> LoraAdapter:
    info = inspect_addon(directory, base.directory, base.info)
    return read_adapter(directory, info.file_sha256, base, rank_max=rank_max)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return load_base(build_tiny_model(tmp_path_factory.mktemp("base"), "llama"))


def test_what_is_read_is_what_the_file_says(base: BaseModel, tmp_path: Path) -> None:
    directory = build_tiny_addon(tmp_path, base.directory, rank=3, alpha=12)
    stored = load_file(directory / "adapter_model.safetensors")
    adapter = read(directory, base)
    for path, (linear, start, stop) in base.places.items():
        name = f"base_model.model.{path}.lora_"
        inputs = torch.randn(2, stored[f"{name}A.weight"].shape[1], generator=torch.Generator().manual_seed(1))
        outputs = torch.zeros(2, sum(linear.output_sizes))
        adapter.changes[linear].add(inputs, outputs, slice(0, 2))
        expected = 4 * inputs @ stored[f"{name}A.weight"].t() @ stored[f"{name}B.weight"].t()
        assert torch.allclose(outputs[:, start:stop], expected, atol=1e-4)


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_weights_are_kept_in_the_dtype_that_is_served(tmp_path: Path, stored: str) -> None:
    base = load_base(build_tiny_model(tmp_path / "base", "llama"), torch.bfloat16)
    adapter = read(build_tiny_addon(tmp_path / "addon", base.directory, dtype=stored), base)
    linear = base.places["model.layers.0.self_attn.o_proj"].linear
    outputs = torch.zeros(1, 64, dtype=torch.bfloat16)
    adapter.changes[linear].add(torch.ones(1, 64, dtype=torch.bfloat16), outputs, slice(0, 1))
    assert outputs.abs().sum() > 0


def test_layers_that_it_does_not_name_are_left_alone(base: BaseModel, tmp_path: Path) -> None:
    adapter = read(build_tiny_addon(tmp_path, base.directory, target_modules=["k_proj"]), base)
    linears = {base.places[f"model.layers.{index}.self_attn.k_proj"].linear for index in range(2)}
    assert adapter.changes.keys() == linears


def test_equal_addons_have_equal_digests_and_others_have_not(base: BaseModel, tmp_path: Path) -> None:
    same, again, other, scaled = (
        read(build_tiny_addon(tmp_path / str(index), base.directory, seed=seed, alpha=alpha), base).digest
        for index, (seed, alpha) in enumerate([(1, 8), (1, 8), (2, 8), (1, 9)])
    )
    assert same == again
    assert len({same, other, scaled}) == 3


def test_an_addon_that_was_changed_since_its_import_is_refused(base: BaseModel, tmp_path: Path) -> None:
    info = inspect_addon(build_tiny_addon(tmp_path, base.directory), base.directory, base.info)
    known = info.file_sha256 | {"adapter_config.json": "another"}
    with pytest.raises(LoadRefused, match=r"not what was imported: adapter_config\.json"):
        read_adapter(tmp_path, known, base, rank_max=64)


def test_an_addon_that_does_not_fit_is_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(LoadRefused, match="up to 3"):
        read(build_tiny_addon(tmp_path, base.directory), base, rank_max=3)
    larger = build_tiny_model(tmp_path / "larger", "llama", hidden_size=128)
    addon = build_tiny_addon(tmp_path / "addon", larger)
    with pytest.raises(LoadRefused, match="call for"):
        read_adapter(addon, inspect_addon(addon, larger, inspect_llm(larger)).file_sha256, base, rank_max=64)
