import hashlib
import os
from pathlib import Path

import pytest

from models.folder import ENTRIES_MAX, ModelFolder
from models.refusal import ModelRefused, RefusalReason


def refusal_of_listing(directory: Path) -> ModelRefused:
    with ModelFolder(directory) as folder, pytest.raises(ModelRefused) as refused:
        folder.list_entries()
    return refused.value


def test_files_and_folders_are_listed_apart(tmp_path: Path) -> None:
    (tmp_path / "b.json").touch()
    (tmp_path / "a.json").touch()
    (tmp_path / "original").mkdir()
    with ModelFolder(tmp_path) as folder:
        assert folder.list_entries() == (["a.json", "b.json"], ["original"])


def test_a_link_to_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/etc/passwd")
    refused = refusal_of_listing(tmp_path)
    assert (refused.reason, refused.file) == (RefusalReason.UNSAFE_FILE, "config.json")


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "more").symlink_to("/etc")
    assert refusal_of_listing(tmp_path).reason == RefusalReason.UNSAFE_FILE


def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert refusal_of_listing(tmp_path).reason == RefusalReason.UNSAFE_FILE
    with ModelFolder(tmp_path) as folder, pytest.raises(ModelRefused, match="not a regular file"):
        folder.open("config.json")


@pytest.mark.parametrize("name", [b"a\nb.json", b"a\\b.json", b"\xff.json", "a\u202egnp.json".encode()])
def test_names_that_could_mislead_are_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).touch()
    refused = refusal_of_listing(tmp_path)
    assert refused.reason == RefusalReason.UNSAFE_FILE
    assert refused.message.isprintable()


def test_a_folder_without_end_is_refused(tmp_path: Path) -> None:
    for index in range(ENTRIES_MAX + 1):
        (tmp_path / str(index)).touch()
    assert refusal_of_listing(tmp_path).reason == RefusalReason.UNSAFE_FILE


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "..", "a\0b", "a/../b", "a//b", "a/", "a/b/c/d"])
def test_only_names_inside_are_opened(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("s")
    with ModelFolder(inside) as folder, pytest.raises(ModelRefused) as refused:
        folder.open(name)
    assert refused.value.reason == RefusalReason.UNSAFE_FILE


def test_a_file_swapped_for_a_link_after_listing_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with ModelFolder(tmp_path) as folder:
        folder.list_entries()
        (tmp_path / "config.json").unlink()
        (tmp_path / "config.json").symlink_to("/etc/passwd")
        with pytest.raises(ModelRefused) as refused:
            folder.open("config.json")
    assert refused.value.reason == RefusalReason.UNSAFE_FILE


def test_a_missing_file_and_a_missing_folder_have_their_reasons(tmp_path: Path) -> None:
    with ModelFolder(tmp_path) as folder, pytest.raises(ModelRefused) as missing:
        folder.open("config.json")
    assert missing.value.reason == RefusalReason.MISSING_FILE
    with pytest.raises(ModelRefused) as unreadable:
        ModelFolder(tmp_path / "nowhere")
    assert unreadable.value.reason == RefusalReason.UNREADABLE
    assert str(tmp_path) not in unreadable.value.message


def test_a_file_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"x" * 11)
    with ModelFolder(tmp_path) as folder:
        with pytest.raises(ModelRefused) as refused:
            folder.read("config.json", bytes_max=10)
        assert refused.value.reason == RefusalReason.TOO_LARGE
        assert len(folder.read("config.json", bytes_max=11)) == 11


def test_everything_read_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": 1}')
    (tmp_path / "weights").write_bytes(b"w" * 100)
    (tmp_path / "unread").write_bytes(b"u")
    with ModelFolder(tmp_path) as folder:
        assert folder.read_json("a.json", bytes_max=100, values_max=10) == {"a": 1}
        with folder.open("weights") as file:
            file.read(7)
            folder.hash("weights", file)
        assert folder.sha256 == {
            "a.json": hashlib.sha256(b'{"a": 1}').hexdigest(),
            "weights": hashlib.sha256(b"w" * 100).hexdigest(),
        }


def test_a_file_is_as_known_if_it_has_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"a")
    (tmp_path / "other").write_bytes(b"b")
    known = hashlib.sha256(b"a").hexdigest()
    with ModelFolder(tmp_path, {"same": known, "other": known}) as folder:
        assert folder.is_as_known("same")
        assert not folder.is_as_known("other")
        assert folder.sha256 == {"same": known, "other": hashlib.sha256(b"b").hexdigest()}
    (tmp_path / "unknown").touch()
    with ModelFolder(tmp_path) as folder:
        assert not folder.is_as_known("unknown")


def test_malformed_json_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{")
    with ModelFolder(tmp_path) as folder, pytest.raises(ModelRefused) as refused:
        folder.read_json("a.json", bytes_max=100, values_max=10)
    assert refused.value.reason == RefusalReason.MALFORMED_JSON
    assert refused.value.message.startswith("a.json: ")


def test_files_in_folders_are_listed_opened_and_hashed_under_their_whole_name(tmp_path: Path) -> None:
    inner = tmp_path / "controlnet" / "canny"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text("{}")
    (tmp_path / "model_index.json").write_text("{}")
    with ModelFolder(tmp_path) as folder:
        assert folder.list_tree() == ["controlnet/canny/config.json", "model_index.json"]
        assert folder.read("controlnet/canny/config.json", bytes_max=10) == b"{}"
        assert folder.sha256 == {"controlnet/canny/config.json": hashlib.sha256(b"{}").hexdigest()}


def test_a_link_anywhere_in_the_tree_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "unet").mkdir(parents=True)
    outside.mkdir()
    (outside / "config.json").write_text("secret")
    (inside / "unet" / "config.json").symlink_to(outside / "config.json")
    (inside / "vae").symlink_to(outside)
    with ModelFolder(inside) as folder:
        for name in ("unet/config.json", "vae/config.json"):
            with pytest.raises(ModelRefused) as refused:
                folder.open(name)
            assert refused.value.reason == RefusalReason.UNSAFE_FILE
        with pytest.raises(ModelRefused, match="symbolic link"):
            folder.list_tree()


def test_folders_that_are_too_deep_or_too_full_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er" / "est").mkdir(parents=True)
    with ModelFolder(tmp_path) as folder, pytest.raises(ModelRefused, match="deeper than 2 folders"):
        folder.list_tree()
    full = tmp_path / "full"
    for number in range(3):
        (full / str(number)).mkdir(parents=True)
        for index in range(ENTRIES_MAX // 3 + 1):
            (full / str(number) / str(index)).touch()
    with ModelFolder(full) as folder, pytest.raises(ModelRefused, match="more than 1024 entries"):
        folder.list_tree()
