import stat
from pathlib import Path

import pytest

from scripts.model_folder import replace_folder


def write(directory: Path, text: str) -> Path:
    directory.mkdir()
    path = directory / "weights"
    path.write_text(text)
    path.chmod(0o600)
    return directory


def test_the_new_one_is_readable_for_all_and_stands_where_the_old_one_was(tmp_path: Path) -> None:
    old = write(tmp_path / "model", "old")
    (old / "left over").touch()
    replace_folder(write(tmp_path / "written", "new"), old, max_bytes=3)
    assert {path.name: path.read_text() for path in old.iterdir()} == {"weights": "new"}
    assert stat.S_IMODE((old / "weights").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_that_is_too_big_leaves_the_old_one(tmp_path: Path) -> None:
    old = write(tmp_path / "model", "old")
    with pytest.raises(ValueError, match="has 6 bytes, more than 5"):
        replace_folder(write(tmp_path / "written", "bigger"), old, max_bytes=5)
    assert (old / "weights").read_text() == "old"
