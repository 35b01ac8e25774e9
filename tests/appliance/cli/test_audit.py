"""`hearth audit verify` on the data directory of a daemon that runs, and on copies with which something was done."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.appliance.cli.conftest import Hearth


@pytest.fixture
def copy(hearth: Hearth, tmp_path: Path) -> Path:
    directory = tmp_path / "copy"
    directory.mkdir()
    for name in ("master-key", "audit-head"):
        shutil.copy(hearth.daemon.data_dir / name, directory / name)
    source = sqlite3.connect(hearth.daemon.data_dir / "hearth.db")
    target = sqlite3.connect(directory / "hearth.db")
    with closing(source), closing(target):
        source.backup(target)
    return directory


def test_the_log_of_a_daemon_that_runs_is_sound(hearth: Hearth) -> None:
    verified = hearth("audit", "verify")
    assert verified.exit_code == 0, verified.err
    assert "all sound" in verified.out
    found: Any = hearth("audit", "verify", "-o", "json").json
    assert (found["sound"], found["firstBadRow"]) == (True, None)
    assert hearth("audit", "verify", "--head", found["head"]).exit_code == 0


def test_tampering_ends_with_1_and_names_the_row(hearth: Hearth, copy: Path) -> None:
    with closing(sqlite3.connect(copy / "hearth.db", isolation_level=None)) as db:
        db.execute("DROP TRIGGER audit_logs_never_change")
        db.execute("UPDATE audit_logs SET user_id = 'somebody-else' WHERE seq = 2")
    refused = hearth("audit", "verify", "--data-dir", str(copy))
    assert refused.exit_code == 1
    assert "row 2 was changed" in refused.err
    found: Any = hearth("audit", "verify", "--data-dir", str(copy), "-o", "json").json
    assert (found["sound"], found["firstBadRow"]) == (False, 2)


def test_a_head_that_was_written_down_is_held_against_it(hearth: Hearth, copy: Path) -> None:
    refused = hearth("audit", "verify", "--data-dir", str(copy), "--head", f"1:{'0' * 64}")
    assert (refused.exit_code, "row 1 is not the one" in refused.err) == (1, True)
    assert "--head" in hearth("audit", "verify", "--head", "7").err


def test_without_the_master_key_nothing_can_be_said(hearth: Hearth, copy: Path) -> None:
    (copy / "master-key").rename(copy / "elsewhere")
    refused = hearth("audit", "verify", "--data-dir", str(copy))
    assert (refused.exit_code, "master-key is missing" in refused.err) == (1, True)
    assert not (copy / "master-key").exists()
    verified = hearth("audit", "verify", "--data-dir", str(copy), "--master-key-file", str(copy / "elsewhere"))
    assert verified.exit_code == 0, verified.err
