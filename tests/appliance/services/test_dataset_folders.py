from pathlib import Path

from appliance.services.dataset_folders import remove_others, sweep, take_in


def test_a_file_moves_into_a_folder_that_is_made_for_it_and_replaces(tmp_path: Path) -> None:
    for content in ("first", "second"):
        part = tmp_path / "part"
        part.write_text(content)
        take_in(part, tmp_path / "folder", "name")
        assert (tmp_path / "folder" / "name").read_text() == content
        assert not part.exists()


def test_only_what_is_kept_stays(tmp_path: Path) -> None:
    remove_others(tmp_path / "missing", set())
    for name in ("a", "b"):
        (tmp_path / name).touch()
    remove_others(tmp_path, {"b"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_sweep_looks_into_folders(tmp_path: Path) -> None:
    for path in ("kept/file", "kept/old", "nobodys/file"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "stray").touch()
    sweep(tmp_path, {"kept": {"file"}, "not-there-yet": {"file"}})
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["kept", "kept/file"]
