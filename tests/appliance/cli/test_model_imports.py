import re
from pathlib import Path
from typing import Any

from tests.appliance.cli.conftest import Hearth


def test_a_folder_of_the_machine_becomes_a_model(hearth: Hearth, checkpoint: Path) -> None:
    words = ("import", "model", "imported", "--from", str(checkpoint), "--display-name", "Imported")
    outcome = hearth(*words, "--wait")
    assert outcome.exit_code == 0, outcome.err
    assert "importing imported: " in outcome.err
    assert re.search(r"^Imported from: +file:checkpoint$", outcome.out, re.M)
    listed = hearth("list", "operations")
    (row,) = [line.split() for line in listed.out.splitlines() if " imported " in line]
    assert row[1:4] == ["imported", "DONE", "100%"]
    shown = hearth("get", "operation", row[0])
    assert re.search(r"^Progress: +100% of ", shown.out, re.M)
    assert hearth("cancel", "operation", row[0]).out == f"Cancelled {row[0]}\n"
    again = hearth(*words)
    assert (again.exit_code, "takes no more files" in again.err) == (1, True)


def test_an_import_that_fails_is_an_error_of_the_command_that_waits_for_it(hearth: Hearth, checkpoint: Path) -> None:
    missing = str(checkpoint.parent / "missing")
    failed = hearth("import", "model", "lost", "--from", missing, "--wait")
    assert failed.exit_code == 1
    assert "accounts/hearth/models/lost was not imported: localPath: " in failed.err
    started: Any = hearth("model", "import", "lost", "--from", missing, "-o", "json").json
    assert started["done"] is False


def test_what_the_daemon_does_not_allow_is_said(hearth: Hearth) -> None:
    assert "import_roots" in hearth("import", "model", "m", "--from", "/etc").err
    assert "allow_hub" in hearth("import", "model", "m", "--hugging-face-repo", "o/n").err
    for words in ((), ("--from", "/x", "--hugging-face-repo", "o/n")):
        assert hearth("import", "model", "m", *words).exit_code == 2
