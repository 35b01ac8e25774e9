"""Somebody with the files, and without the master key, changes the audit log: whatever he does, it shows."""

import shutil
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from appliance.services import audit
from appliance.services.audit_head import HEAD_FILE, AuditHead
from appliance.services.audit_verification import verify_log
from appliance.store.audit_logs import Link
from appliance.store.database import Database
from tests.appliance.services.audit_process import KEY

NUM_ROWS = 40
"""The first is the start's."""


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """The database of a daemon that has stopped."""
    return await written_log(tmp_path / "hearth.db", NUM_ROWS)


async def written_log(path: Path, num_rows: int) -> Path:
    database = await Database.open(path, KEY)
    head = AuditHead(database, path, KEY)
    await head.begin("acme", "version 1")
    async with database.transaction() as tx:
        for number in range(2, num_rows + 1):
            await audit.record_own_act(tx, "CreateModel", f"accounts/acme/models/m{number}", "")
    await head.close()
    await database.close()
    return path


def tamper(path: Path, *statements: str) -> None:
    """As anybody can who may write the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)


def found(path: Path) -> tuple[int | None, str]:
    verdict = verify_log(path, KEY)
    return verdict.seq, verdict.problem


def test_an_untouched_log_is_sound(log: Path) -> None:
    verdict = verify_log(log, KEY)
    assert (verdict.problem, verdict.last.seq, verdict.losses) == ("", NUM_ROWS, [])


@pytest.mark.parametrize(
    ("statements", "seq", "what"),
    [
        (["DELETE FROM audit_logs WHERE seq = 17"], 17, "row 17 is missing"),
        (["DELETE FROM audit_logs WHERE seq BETWEEN 17 AND 20"], 17, "rows 17 to 20 are missing"),
        (["DELETE FROM audit_logs WHERE seq = 1"], 1, "row 1 is missing"),
        (["DELETE FROM audit_logs WHERE seq > 30"], 31, "rows 31 to 40 are missing"),
        (["DELETE FROM audit_logs"], 1, "rows 1 to 40 are missing"),
        (["UPDATE audit_logs SET user_id = 'bob' WHERE seq = 9"], 9, "row 9 was changed"),
        (["UPDATE audit_logs SET at = at + 1 WHERE seq = 40"], 40, "row 40 was changed"),
        (["UPDATE audit_logs SET fields = 'no JSON' WHERE seq = 9"], 9, "row 9 was changed"),
        (["UPDATE audit_logs SET hash = zeroblob(32) WHERE seq = 9"], 9, "row 9 was changed"),
        (
            [f"UPDATE audit_logs SET seq = {to} WHERE seq = {at}" for at, to in ((5, -1), (6, 5), (-1, 6))],
            5,
            "row 5 stood elsewhere",
        ),
        (
            [f"UPDATE audit_logs SET seq = {to} WHERE seq = {at}" for at, to in ((5, -1), (30, 5), (-1, 30))],
            5,
            "row 5 stood elsewhere",
        ),
        (
            ["DELETE FROM audit_logs WHERE seq = 9", "UPDATE audit_logs SET seq = seq - 1 WHERE seq > 9"],
            9,
            "row 9 was changed, or rows before it are gone",
        ),
        (["DROP TABLE audit_logs"], 1, "cannot be read"),
    ],
)
def test_what_is_done_to_rows_shows_at_the_first_one(log: Path, statements: list[str], seq: int, what: str) -> None:
    tamper(log, *statements)
    assert found(log)[0] == seq
    assert what in found(log)[1]


def test_a_row_that_is_added_without_the_key_shows(log: Path) -> None:
    columns = "account_id, at, user_account_id, user_id, key_id, role, method, resource, outcome, message, fields"
    rest = f"{columns}, count, request_id, client_address, user_agent"
    tamper(log, f"INSERT INTO audit_logs (seq, {rest}, hash) SELECT 41, {rest}, hash FROM audit_logs WHERE seq = 40")
    assert found(log)[0] == 41


def test_an_older_copy_of_the_database_shows(log: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    shutil.copy(log, older)
    tamper(older, "DELETE FROM audit_logs WHERE seq > 25")
    shutil.copy(older, log)
    assert found(log) == (26, "rows 26 to 40 are missing: the log ends before them")


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda head: head.unlink(), "audit-head is missing"),
        (lambda head: head.write_text(""), "audit-head was changed"),
        (lambda head: head.write_text(head.read_text().replace("40 ", "39 ", 1)), "audit-head was changed"),
        (lambda head: head.write_text(head.read_text()[:-10]), "audit-head was changed"),
        (lambda head: head.write_bytes(b"\xff\x00" * 50), "audit-head was changed"),
    ],
)
def test_a_head_that_is_removed_or_edited_shows(log: Path, edit: Callable[[Path], None], what: str) -> None:
    edit(log.with_name(HEAD_FILE))
    assert what in found(log)[1]
    assert verify_log(log, KEY).last.seq == NUM_ROWS, "the rows themselves are sound"


async def test_a_head_kept_elsewhere_shows_what_the_file_cannot(log: Path, tmp_path: Path) -> None:
    """All files put back to an older state agree with each other."""
    kept = verify_log(log, KEY).last
    (tmp_path / "older").mkdir()
    older = await written_log(tmp_path / "older" / "hearth.db", 25)
    assert verify_log(older, KEY).problem == ""
    assert verify_log(older, KEY, kept).seq == 26
    assert verify_log(log, KEY, kept).problem == ""
    assert verify_log(log, KEY, Link(kept.seq, bytes(32))).seq == NUM_ROWS


def test_another_master_key_is_not_taken_for_tampering(log: Path) -> None:
    assert "no row fits this master key" in verify_log(log, bytes(32)).problem


@pytest.fixture
def killed_log(tmp_path: Path) -> Path:
    """Of a process that was killed: most of it is in the journal."""
    path = tmp_path / "hearth.db"
    command = [sys.executable, "-m", "tests.appliance.services.audit_process", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 100:
                break
        process.kill()
    return path


def test_the_journal_of_a_killed_daemon_is_read(killed_log: Path) -> None:
    verdict = verify_log(killed_log, KEY)
    assert verdict.problem == ""
    assert verdict.last.seq > 100


def test_a_flipped_byte_in_the_journal_shows(killed_log: Path) -> None:
    """SQLite drops what follows it without a word."""
    journal = killed_log.with_name("hearth.db-wal")
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    killed_log.with_name("hearth.db-shm").unlink()
    seq, problem = found(killed_log)
    assert seq in range(2, 102), problem
    assert "are missing" in problem


def test_a_flipped_byte_in_the_database_shows(log: Path) -> None:
    content = bytearray(log.read_bytes())
    at = content.index(b"accounts/acme/models/m12")
    content[at + 23] ^= 1
    log.write_bytes(content)
    assert found(log)[0] == 12


async def test_a_long_log_is_walked_fast_and_in_little_memory(tmp_path: Path) -> None:
    num_rows = 5000
    path = await written_log(tmp_path / "hearth.db", num_rows)
    tracemalloc.start()
    began = time.process_time()
    try:
        assert verify_log(path, KEY).last.seq == num_rows
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5.0, "100 000 rows take seconds"
