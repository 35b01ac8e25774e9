"""What the doctor says of a data directory, and that it says it of the right file."""

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.config import Config, ServerSettings
from appliance.operations.findings import Finding, Verdict
from appliance.operations.state_checks import check_clock, check_port, check_state
from appliance.services.audit_verification import verify_log
from appliance.services.keyring import load_keyring
from appliance.store.lock import lock_data_dir
from tests.appliance.operations.data_dir import fill_data_dir


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    filled = fill_data_dir(tmp_path / "data")
    (filled / "admin-api-key").chmod(0o600)
    return filled


def findings(data_dir: Path) -> dict[str, Finding]:
    config = Config(data_dir=data_dir, server=ServerSettings(port=0))
    return {finding.check: finding for finding in check_state(config, data_dir)}


def test_a_healthy_directory_has_no_problem(data_dir: Path) -> None:
    found = findings(data_dir)
    assert not [finding for finding in found.values() if finding.verdict is not Verdict.OK and finding.check != "Disk"]
    assert found.keys() == {
        "Port", "Data directory", "Disk", "Key files", "Master key", "Database", "Audit log", "Clock"
    }  # fmt: skip
    assert found["Audit log"].message.startswith("10 rows, all sound")


def test_a_directory_that_is_not_there_yet_is_a_warning(tmp_path: Path) -> None:
    assert findings(tmp_path / "none")["Data directory"].verdict is Verdict.WARNING


def test_looking_changes_nothing(data_dir: Path) -> None:
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    findings(data_dir)
    assert {path: path.read_bytes() for path in before} == before


def test_what_others_may_read_is_named_with_the_command_against_it(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    (data_dir / "master-key").chmod(0o644)
    found = findings(data_dir)
    assert found["Data directory"].advice == f"chmod 700 {data_dir}"
    assert found["Key files"].verdict is Verdict.PROBLEM
    assert found["Key files"].advice == f"chmod 600 {data_dir / 'master-key'}"


def test_a_damaged_database_is_a_problem_with_a_way_out(data_dir: Path) -> None:
    (data_dir / "hearth.db").write_bytes(b"nonsense" * 1000)
    found = findings(data_dir)["Database"]
    assert found.verdict is Verdict.PROBLEM
    assert "hearth restore" in found.advice


def test_a_missing_or_short_master_key_is_a_problem(data_dir: Path) -> None:
    (data_dir / "master-key").write_bytes(b"short")
    assert "5 bytes" in findings(data_dir)["Master key"].message
    (data_dir / "master-key").unlink()
    found = findings(data_dir)
    assert found["Master key"].verdict is Verdict.PROBLEM
    assert "Audit log" not in found, "nobody can tell without it"


def test_a_tampered_audit_log_is_a_problem(data_dir: Path) -> None:
    with closing(sqlite3.connect(data_dir / "hearth.db")) as db:
        db.executescript("DROP TRIGGER audit_logs_never_change; UPDATE audit_logs SET message = 'x' WHERE seq = 4")
    found = findings(data_dir)["Audit log"]
    assert found.verdict is Verdict.PROBLEM
    assert "row 4" in found.message


def test_a_clock_that_was_set_back_behind_the_log_is_a_problem(data_dir: Path) -> None:
    verdict = verify_log(data_dir / "hearth.db", load_keyring(data_dir / "master-key").derive("audit/v1"))
    written_at = (data_dir / "audit-head").stat().st_mtime
    assert check_clock(data_dir / "hearth.db", verdict, written_at + 10.0).verdict is Verdict.OK
    assert check_clock(data_dir / "hearth.db", verdict, written_at - 3600.0).verdict is Verdict.PROBLEM


def test_a_taken_port_is_a_problem_unless_our_own_daemon_has_it(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert check_port("127.0.0.1", taken.getsockname()[1]).verdict is Verdict.PROBLEM
    assert check_port("127.0.0.1", 0).verdict is Verdict.OK
    with lock_data_dir(data_dir):
        assert "Port" not in findings(data_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_of_somebody_else_is_a_problem(data_dir: Path) -> None:
    data_dir.chmod(0o000)
    try:
        assert findings(data_dir)["Data directory"].verdict is Verdict.PROBLEM
    finally:
        data_dir.chmod(0o700)
