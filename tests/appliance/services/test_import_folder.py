import os
from pathlib import Path

import pytest

from appliance.errors import Code, HearthError
from appliance.services import import_folder
from appliance.services.import_folder import LocalFolder
from tests.appliance.services.model_world import refusal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With a model below it, and a secret beside it."""
    (tmp_path / "root" / "poet").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text("secret")
    for name in ("config.json", "model.safetensors", "code.py", ".hidden.json"):
        (tmp_path / "root" / "poet" / name).write_bytes(name.encode() * 100)
    return tmp_path / "root"


async def sizes_of(folder: LocalFolder) -> dict[str, int]:
    try:
        return await folder.open()
    finally:
        await folder.close()


async def test_files_of_a_model_are_copied_with_their_times(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_folder, "COPY_BYTES", 300)
    folder = LocalFolder(str(root / "poet"), [str(root)])
    sizes = await folder.open()
    assert sizes == {"config.json": 1100, "model.safetensors": 1700}
    told: list[int] = []
    part = tmp_path / "part"
    part.write_bytes((root / "poet" / "model.safetensors").read_bytes()[:301])  # of an attempt that was killed
    await folder.fetch("model.safetensors", 1700, part, told.append)
    assert part.read_bytes() == (root / "poet" / "model.safetensors").read_bytes()
    assert (told[0], sum(told)) == (301, 1700)
    assert folder.is_same("model.safetensors", part, "")
    os.utime(part, ns=(1, 1))
    assert not folder.is_same("model.safetensors", part, "")
    await folder.close()
    assert folder.identity == "file:poet"


@pytest.mark.parametrize(
    "path", ["{root}", "{root}/..", "{root}/../secret", "{root}/poet/../../secret", "/etc", "poet", "", "{root}\0x"]
)
def test_what_does_not_lead_below_a_root_is_refused(root: Path, path: str) -> None:
    with pytest.raises(HearthError) as caught:
        LocalFolder(path.format(root=root), [str(root)])
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "localPath")


def test_without_roots_nothing_is_imported(root: Path) -> None:
    with pytest.raises(HearthError, match="import_roots"):
        LocalFolder(str(root / "poet"), [])


async def test_links_lead_to_what_is_below_a_root_and_nowhere_else(root: Path, tmp_path: Path) -> None:
    (root / "blob").write_text("blob")
    linked = root / "linked"
    linked.mkdir()
    (linked / "config.json").symlink_to(root / "blob")
    assert await sizes_of(LocalFolder(str(linked), [str(root)])) == {"config.json": 4}
    (linked / "generation_config.json").symlink_to(tmp_path / "secret" / "config.json")
    assert (await refusal(sizes_of(LocalFolder(str(linked), [str(root)])))).param == "localPath"

    (root / "way-out").symlink_to(tmp_path / "secret")
    with pytest.raises(HearthError):
        LocalFolder(str(root / "way-out"), [str(root)])


async def test_a_link_that_appears_after_the_check_leads_nowhere(root: Path, tmp_path: Path) -> None:
    folder = LocalFolder(str(root / "poet"), [str(root)])
    (root / "poet").rename(root / "moved")
    (root / "poet").symlink_to(tmp_path / "secret")
    assert (await refusal(sizes_of(folder))).param == "localPath"

    folder = LocalFolder(str(root / "moved"), [str(root)])
    await folder.open()
    (root / "moved" / "config.json").unlink()
    (root / "moved" / "config.json").symlink_to(tmp_path / "secret" / "config.json")
    assert (await refusal(folder.fetch("config.json", 6, tmp_path / "part", lambda _: None))).param == "localPath"
    assert not (tmp_path / "part").exists()
    await folder.close()


async def test_what_is_no_file_is_refused_without_waiting_for_it(root: Path) -> None:
    (root / "poet" / "config.json").unlink()
    os.mkfifo(root / "poet" / "config.json")
    assert (await refusal(sizes_of(LocalFolder(str(root / "poet"), [str(root)])))).code is Code.INVALID


async def test_a_folder_that_is_not_there_or_holds_no_model_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    for name in ("nothing", "empty"):
        assert (await refusal(sizes_of(LocalFolder(str(root / name), [str(root)])))).code is Code.INVALID


async def test_a_file_that_shrinks_while_it_is_read_is_refused(root: Path, tmp_path: Path) -> None:
    folder = LocalFolder(str(root / "poet"), [str(root)])
    await folder.open()
    (root / "poet" / "config.json").write_text("short")
    error = await refusal(folder.fetch("config.json", 1100, tmp_path / "part", lambda _: None))
    assert error.code is Code.FAILED_PRECONDITION
    await folder.close()


async def test_folders_inside_are_looked_into_and_links_to_folders_are_not(root: Path, tmp_path: Path) -> None:
    model = root / "sdxl"
    for name in ("unet", "controlnet/canny", ".cache", "unet/too/deep"):
        (model / name).mkdir(parents=True)
        (model / name / "config.json").write_text("{}")
    (model / "model_index.json").write_text("{}")
    (model / "vae").symlink_to(tmp_path / "secret")
    assert await sizes_of(LocalFolder(str(model), [str(root)])) == {
        "controlnet/canny/config.json": 2,
        "model_index.json": 2,
        "unet/config.json": 2,
    }
    folder = LocalFolder(str(model), [str(root)])
    await folder.open()
    await folder.fetch("unet/config.json", 2, tmp_path / "part", lambda num_bytes: None)
    assert (tmp_path / "part").read_text() == "{}"
    await folder.close()
