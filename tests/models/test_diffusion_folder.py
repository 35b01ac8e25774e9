import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.diffusion_folder import inspect_diffusion
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.safetensors_file import join, split
from tests.fakes.tiny_diffusion import SDXL_SIZE, build_tiny_flux, build_tiny_sdxl


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdxl") / "model"
    return build_tiny_sdxl(directory, control_nets=["canny"], has_safety_checker=True)


@pytest.fixture
def sdxl(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "sdxl"))


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        inspect_diffusion(directory)
    assert str(directory) not in refused.value.message
    return refused.value


def edit_json(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_an_sdxl_folder_is_described(tiny: Path) -> None:
    info = inspect_diffusion(tiny)
    assert (info.architecture, info.pipeline, info.dtype) == ("StableDiffusionXLPipeline", "sdxl", "float32")
    assert (info.default_size, info.max_context_length, info.is_distilled) == (SDXL_SIZE, 77, False)
    assert (info.control_nets, info.has_safety_checker) == (["canny"], True)
    assert sorted(info.components) == [
        "controlnet/canny", "safety_checker", "text_encoder", "text_encoder_2", "unet", "vae",
    ]  # fmt: skip
    assert sum(info.components.values()) == info.weight_bytes
    assert (info.denoiser_width, info.vae_channels) == (64, [16, 32])
    files = {str(path.relative_to(tiny)) for path in tiny.rglob("*") if path.is_file()}
    assert set(info.file_sha256) == files, "the worker reads every file that diffusers saved"


@pytest.mark.parametrize("is_distilled", [False, True])
def test_a_flux_folder_is_described(tmp_path: Path, is_distilled: bool) -> None:
    info = inspect_diffusion(build_tiny_flux(tmp_path / "flux", is_distilled=is_distilled))
    assert (info.pipeline, info.is_distilled, info.control_nets) == ("flux", is_distilled, [])
    assert sorted(info.components) == ["text_encoder", "text_encoder_2", "transformer", "vae"]


def test_settings_beside_the_parts_are_no_parts(sdxl: Path) -> None:
    edit_json(sdxl / "model_index.json", add_watermarker=None, requires_safety_checker=False, _name_or_path="somewhere")
    inspect_diffusion(sdxl)


def test_shards_of_half_precision_are_read_by_their_index(sdxl: Path) -> None:
    unet = sdxl / "unet"
    shard = "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / shard)
    header, _ = split(unet / shard)
    weight_map = {name: shard for name in header if name != "__metadata__"}
    (unet / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": weight_map}))
    info = inspect_diffusion(sdxl)
    assert info.variant == "fp16"
    assert f"unet/{shard}" in info.file_sha256


def test_weights_under_names_of_half_precision_are_read(sdxl: Path) -> None:
    for component in ("unet", "vae"):
        stem = sdxl / component / "diffusion_pytorch_model"
        stem.with_suffix(".safetensors").rename(stem.with_suffix(".fp16.safetensors"))
    info = inspect_diffusion(sdxl)
    assert info.variant == "fp16"
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in info.file_sha256


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": "StableDiffusionPipeline"},
        {"_class_name": ["my_pipeline", "MyPipeline"]},
        {"unet": ["my_unet", "MyUNet"]},
        {"unet": ["diffusers", "UNet3DConditionModel"]},
        {"scheduler": ["scheduler_mine", "EulerDiscreteScheduler"]},
        {"watermark": ["my_code", "Watermark"]},
        {"image_encoder": ["my_code", "Encoder"]},
        {"text_encoder": [None, None]},
        {"tokenizer": "CLIPTokenizer"},
        {"custom_pipeline": {"path": "mine"}},
    ],
)
def test_parts_that_are_not_served_are_refused_by_name(sdxl: Path, change: dict[str, Any]) -> None:
    edit_json(sdxl / "model_index.json", **change)
    refused = refusal(sdxl)
    assert (refused.reason, refused.file) == (RefusalReason.UNSUPPORTED_ARCHITECTURE, "model_index.json")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("unet/config.json", {"_class_name": "Mine"}, RefusalReason.INVALID_CONFIG),
        ("unet/config.json", {"in_channels": 9}, RefusalReason.UNSUPPORTED_ARCHITECTURE),
        ("unet/config.json", {"sample_size": 10**9}, RefusalReason.INVALID_CONFIG),
        ("unet/config.json", {"quantization_config": {}}, RefusalReason.UNSUPPORTED_QUANTIZATION),
        ("vae/config.json", {"block_out_channels": []}, RefusalReason.INVALID_CONFIG),
        ("text_encoder/config.json", {"architectures": ["Mine"]}, RefusalReason.INVALID_CONFIG),
        ("controlnet/canny/config.json", {"_class_name": "Mine"}, RefusalReason.INVALID_CONFIG),
        ("scheduler/scheduler_config.json", {"_class_name": "Mine"}, RefusalReason.INVALID_CONFIG),
    ],
)
def test_each_parts_own_config_is_checked(sdxl: Path, name: str, change: dict[str, Any], reason: RefusalReason) -> None:
    edit_json(sdxl / name, **change)
    refused = refusal(sdxl)
    assert (refused.reason, refused.file) == (reason, name)


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer_2/tokenizer_config.json"]
)
def test_a_missing_file_is_named(sdxl: Path, name: str) -> None:
    (sdxl / name).unlink()
    refused = refusal(sdxl)
    assert (refused.reason, refused.file) == (RefusalReason.MISSING_FILE, name)


def test_damaged_weights_pickles_and_links_in_folders_are_refused(sdxl: Path) -> None:
    weights = sdxl / "vae" / "diffusion_pytorch_model.safetensors"
    header, data = split(weights)
    join(weights, header, data[:-1])
    assert refusal(sdxl).reason == RefusalReason.CORRUPT_WEIGHTS
    (sdxl / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    assert refusal(sdxl).reason == RefusalReason.PICKLE
    (sdxl / "unet" / "more").symlink_to("/etc")
    assert refusal(sdxl).reason == RefusalReason.UNSAFE_FILE


def test_weights_in_integers_are_refused_and_positions_are_no_weights(sdxl: Path) -> None:
    weights = sdxl / "vae" / "diffusion_pytorch_model.safetensors"
    header, data = split(weights)
    size = len(data)
    header["positions"] = {"dtype": "I64", "shape": [1], "data_offsets": [size, size + 8]}
    join(weights, header, data + bytes(8))
    inspect_diffusion(sdxl)
    header["positions"] = {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [size, size + 8]}
    join(weights, header, data + bytes(8))
    assert refusal(sdxl).reason == RefusalReason.WRONG_TENSOR


def test_code_is_ignored_and_told(sdxl: Path) -> None:
    (sdxl / "unet" / "mine.py").write_text("import os")
    (sdxl / "sd_xl_base_1.0.safetensors").write_bytes(b"x")
    edit_json(sdxl / "text_encoder" / "config.json", auto_map={"AutoModel": "mine.Mine"})
    assert inspect_diffusion(sdxl).warnings == [
        "text_encoder/config.json: auto_map names remote code, which is never run",
        "unet/mine.py: Python code is never run",
        "sd_xl_base_1.0.safetensors: not part of the checkpoint, ignored",
    ]
