import re
import shutil
from pathlib import Path
from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_model_is_uploaded_shown_listed_and_deleted(hearth: Hearth, checkpoint: Path) -> None:
    outcome = hearth("create", "model", "mine", str(checkpoint), "--display-name", "My model", "--public")
    assert outcome.exit_code == 0, outcome.err
    assert "uploaded" in outcome.err
    lines = [line.split(maxsplit=1) for line in outcome.out.splitlines()]
    assert ["Name:", "accounts/hearth/models/mine"] in lines
    assert ["State:", "READY"] in lines
    assert ["Public:", "yes"] in lines
    assert ["Parameters:", "115,008"] in lines

    listed = hearth("list", "models")
    (row,) = [line.split() for line in listed.out.splitlines() if line.startswith("mine ")]
    assert row[1:4] == ["READY", "512", "FP32"]
    assert "\nmine" not in hearth("list", "models", "-a", "fireworks").out

    assert hearth("delete", "model", "mine").out == "Deleted mine\n"
    gone = hearth("get", "model", "mine")
    assert (gone.exit_code, gone.out) == (1, "")
    assert gone.err == "Error: accounts/hearth/models/mine not found\n"


def test_json_is_what_the_api_says(hearth: Hearth, model_id: str) -> None:
    shown: Any = hearth("get", "model", model_id, "-o", "json").json
    assert (shown["name"], shown["state"], shown["contextLength"]) == (
        f"accounts/hearth/models/{model_id}",
        "READY",
        512,
    )
    listed: Any = hearth("-o", "json", "list", "models").json
    assert shown in listed


def test_the_librarys_models_are_named_in_full_or_by_account(hearth: Hearth) -> None:
    name = "accounts/fireworks/models/ember-chat"
    shown = hearth("get", "model", name)
    assert name in shown.out
    assert hearth("get", "model", "ember-chat", "-a", "fireworks").out == shown.out


def test_only_what_belongs_to_a_model_is_sent(hearth: Hearth, checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling.py").write_text("print('never run')")
    (folder / ".gitattributes").write_text("")
    (folder / "original").mkdir()
    # A hub's cache holds links to the files.
    (folder / "config.json").rename(tmp_path / "blob")
    (folder / "config.json").symlink_to(tmp_path / "blob")
    outcome = hearth("create", "model", "mixed", str(folder), "--quiet")
    assert outcome.exit_code == 0, outcome.err
    assert outcome.err == "Not part of the model, left out: modeling.py, original, pytorch_model.bin\n"


def test_a_folder_that_is_no_model_is_refused_before_anything_is_created(hearth: Hearth, tmp_path: Path) -> None:
    missing = hearth("create", "model", "nothing", str(tmp_path / "missing"))
    assert missing.exit_code == 2
    empty = hearth("create", "model", "nothing", str(tmp_path))
    assert (empty.exit_code, empty.err) == (
        1,
        f"Error: {tmp_path} has no config.json: it is not a Hugging Face model folder\n",
    )
    (tmp_path / "config.json").write_text("{}")
    assert "no .safetensors files" in hearth("create", "model", "nothing", str(tmp_path)).err
    assert hearth("get", "model", "nothing").exit_code == 1


def test_a_broken_upload_says_how_to_go_on_and_the_same_command_goes_on(
    hearth: Hearth, checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{}")
    broken = hearth("create", "model", "second-try", str(folder), "--quiet")
    assert broken.exit_code == 1
    assert "stays UPLOADING" in broken.err
    assert broken.err.splitlines()[-1].startswith("Error: ")

    (folder / "config.json").write_text(config)
    mended = hearth("create", "model", "second-try", str(folder), "--quiet")
    assert mended.exit_code == 0, mended.err
    assert "waits for its files" in mended.err
    again = hearth("create", "model", "second-try", str(folder), "--quiet")
    assert (again.exit_code, again.err) == (1, "Error: accounts/hearth/models/second-try already exists\n")


def test_an_upload_shows_its_progress_on_a_terminal(hearth: Hearth, checkpoint: Path) -> None:
    with hearth.in_terminal("create", "model", "watched", str(checkpoint)) as screen:
        assert screen.wait() == 0, screen.text
    assert "━" in screen.text
    assert re.search(r"\d+(\.\d)?/\d+(\.\d)? (KiB|MiB)", screen.text)
    assert "State:           READY" in screen.text


def test_a_list_fits_80_columns_and_never_cuts_an_id(hearth: Hearth, checkpoint: Path) -> None:
    model_id = "a-model-with-a-rather-long-name-but-not-the-longest-possible"
    assert hearth("create", "model", model_id, str(checkpoint), "--quiet").exit_code == 0
    with hearth.in_terminal("list", "models") as screen:
        assert screen.wait() == 0
    lines = screen.text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any(line.startswith(f"{model_id} ") for line in lines)
