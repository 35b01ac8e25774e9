from pathlib import Path

import pytest

from appliance.cli.model_folder import files_of, is_inside
from appliance.sdk.errors import SdkError


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names_of(folder: Path, *, is_addon: bool = False) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files_of(folder, is_addon=is_addon)]


def test_files_in_folders_are_a_models_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["controlnet/canny/config.json", "model_index.json", "unet/diffusion_pytorch_model.safetensors"]
    write(tmp_path, *wanted, "unet/.cache/x.json", ".git/config.json", "onnx/model.onnx", "readme.md")
    assert names_of(tmp_path) == wanted
    assert capsys.readouterr().err == "Not part of the model, left out: onnx, readme.md\n"


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "config.json", "weights")
    folder = write(tmp_path / "model", "model_index.json", "unet/a.safetensors")
    (folder / "unet" / "config.json").symlink_to(tmp_path / "elsewhere" / "config.json")
    (folder / "vae").symlink_to(tmp_path / "elsewhere")
    assert names_of(folder) == ["model_index.json", "unet/a.safetensors", "unet/config.json"]


def test_an_addon_of_an_image_model_is_a_single_file(tmp_path: Path) -> None:
    folder = write(tmp_path, "my_style.safetensors")
    assert names_of(folder, is_addon=True) == ["my_style.safetensors"]
    with pytest.raises(SdkError, match="say its --base-model"):
        files_of(folder)


def test_a_model_for_ctranslate2_is_taken(tmp_path: Path) -> None:
    names = ["config.json", "model.bin", "vocabulary.json"]
    assert names_of(write(tmp_path, *names)) == names


@pytest.mark.parametrize(
    "names", [["config.json"], ["config.json", "pytorch_model.bin"], ["a.safetensors", "b.safetensors"]]
)
def test_what_is_no_model_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(SdkError):
        files_of(write(tmp_path, *names))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../x", "a//x", ".ssh/x", "a/.x", "a/b/c/d", "a\\b", ""])
def test_a_server_cannot_have_files_written_outside_of_the_folder(name: str) -> None:
    assert not is_inside(name)
    assert is_inside("controlnet/canny/config.json")
