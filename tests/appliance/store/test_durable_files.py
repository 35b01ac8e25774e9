import stat
from pathlib import Path

import pytest

from appliance.store.durable_files import copy_synced, move_into_place, write_private


def test_a_private_file_is_its_owners_alone_and_replaces_the_one_there(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old, and for all to read")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in tmp_path.iterdir()] == ["secret"]


def test_a_private_file_that_cannot_be_placed_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "secret", b"new")
    assert [child.name for child in tmp_path.iterdir()] == ["secret"]


def test_a_whole_folder_is_moved_into_place(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "source").write_bytes(b"abc")
    copy_synced(tmp_path / "source", tmp_path / "part" / "copy")
    move_into_place(tmp_path / "part", tmp_path / "whole")
    assert (tmp_path / "whole" / "copy").read_bytes() == b"abc"
    assert not (tmp_path / "part").exists()
