import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from models.diffusion_folder import inspect_diffusion
from models.image_addons import inspect_image_addon
from models.info import AddonInfo, DiffusionInfo
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.safetensors_file import entry, join, split
from tests.fakes.tiny_diffusion import LORA_WEIGHTS, build_tiny_flux, build_tiny_lora, build_tiny_sdxl


class Base(NamedTuple):
    directory: Path
    info: DiffusionInfo

    def inspect(self, addon: Path) -> AddonInfo:
        return inspect_image_addon(addon, self.directory, self.info)

    def refusal(self, addon: Path) -> ModelRefused:
        with pytest.raises(ModelRefused) as refused:
            self.inspect(addon)
        return refused.value


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    directory = build_tiny_sdxl(tmp_path_factory.mktemp("base") / "sdxl")
    return Base(directory, inspect_diffusion(directory))


@pytest.fixture(scope="module")
def built(sdxl: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_lora(tmp_path_factory.mktemp("lora"), sdxl.directory, adapts_text=True)


@pytest.fixture
def addon(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "addon"))


def test_an_addon_of_unet_and_text_encoder_is_described(sdxl: Base, addon: Path) -> None:
    info = sdxl.inspect(addon)
    assert (info.rank, info.dtype, list(info.file_sha256)) == (4, "float32", [LORA_WEIGHTS])
    assert {"to_q", "to_out", "conv1", "q_proj"} <= set(info.target_modules)


def test_a_file_under_any_name_is_one_if_it_is_the_only_one(sdxl: Base, addon: Path) -> None:
    (addon / LORA_WEIGHTS).rename(addon / "my_style.safetensors")
    assert list(sdxl.inspect(addon).file_sha256) == ["my_style.safetensors"]
    shutil.copy(addon / "my_style.safetensors", addon / "another.safetensors")
    assert sdxl.refusal(addon).reason == RefusalReason.UNSUPPORTED_ADDON
    for path in addon.iterdir():
        path.unlink()
    assert sdxl.refusal(addon).reason == RefusalReason.MISSING_FILE


def test_kohyas_names_are_taken(sdxl: Base, tmp_path: Path) -> None:
    info = sdxl.inspect(build_tiny_lora(tmp_path / "kohya", sdxl.directory, alpha=2.0, adapts_text=True))
    assert info.target_modules == ["lora_te1", "lora_unet"]


def test_an_addon_of_flux_is_described(tmp_path: Path) -> None:
    directory = build_tiny_flux(tmp_path / "flux")
    base = Base(directory, inspect_diffusion(directory))
    assert base.inspect(build_tiny_lora(tmp_path / "lora", directory, base="flux", rank=2)).rank == 2


def test_an_addon_of_another_model_is_refused(sdxl: Base, tmp_path: Path) -> None:
    directory = build_tiny_flux(tmp_path / "flux")
    refused = sdxl.refusal(build_tiny_lora(tmp_path / "lora", directory, base="flux"))
    assert refused.reason == RefusalReason.UNSUPPORTED_ADDON
    assert "is no layer of the base model" in refused.message


def test_matrices_that_do_not_fit_are_refused(sdxl: Base, addon: Path) -> None:
    header, data = split(addon / LORA_WEIGHTS)
    name = next(name for name in header if name.endswith("to_q.lora_A.weight"))
    rank, width = header[name]["shape"]
    join(addon / LORA_WEIGHTS, header | {name: header[name] | {"shape": [width, rank]}}, data)
    assert sdxl.refusal(addon).reason == RefusalReason.WRONG_TENSOR
    wrong = {**header, name.replace("lora_A", "lora_C"): header[name]}
    del wrong[name]
    join(addon / LORA_WEIGHTS, wrong, data)
    assert sdxl.refusal(addon).reason == RefusalReason.UNSUPPORTED_ADDON


def test_one_matrix_of_two_is_refused(sdxl: Base, addon: Path) -> None:
    one = {"unet.mid_block.attentions.0.proj_in.lora_A.weight": entry("F32", [1, 1], 0, 4)}
    join(addon / LORA_WEIGHTS, one, bytes(4))
    assert sdxl.refusal(addon).reason == RefusalReason.MISSING_TENSOR
    join(addon / LORA_WEIGHTS, {}, b"")
    assert sdxl.refusal(addon).reason == RefusalReason.UNSUPPORTED_ADDON


def test_pickles_are_refused(sdxl: Base, addon: Path) -> None:
    (addon / "pytorch_lora_weights.bin").write_bytes(b"x")
    assert sdxl.refusal(addon).reason == RefusalReason.PICKLE
