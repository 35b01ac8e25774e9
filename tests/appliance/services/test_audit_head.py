"""Starts of the daemon, one after another, on a log with which somebody did something in between."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from appliance.errors import HearthError
from appliance.services import audit
from appliance.services.audit_head import HEAD_FILE, AuditHead, read_heads
from appliance.services.audit_verification import verify_log
from appliance.store.database import Database
from tests.appliance.services.audit_process import KEY
from tests.appliance.services.test_audit_verification import tamper, written_log


@asynccontextmanager
async def start(path: Path, key: bytes = KEY) -> AsyncIterator[tuple[Database, AuditHead]]:
    database = await Database.open(path, key)
    try:
        head = AuditHead(database, path, key)
        await head.begin("acme", "version 1")
        yield database, head
        await head.close()
    finally:
        await database.close()


async def start_and_stop(path: Path) -> list[str]:
    async with start(path) as (_, head):
        return head.problems


def rows(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT method, message FROM audit_logs ORDER BY seq").fetchall()


async def test_a_start_leaves_a_row_and_a_head(tmp_path: Path) -> None:
    path = tmp_path / "hearth.db"
    assert await start_and_stop(path) == []
    assert await start_and_stop(path) == []
    assert rows(path) == [("StartDaemon", "version 1")] * 2
    assert [link.seq for link in read_heads(tmp_path / HEAD_FILE, KEY).links] == [2]
    assert (tmp_path / HEAD_FILE).stat().st_mode & 0o777 == 0o600


async def test_the_head_follows_what_is_committed_and_is_left_alone_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "hearth.db"
    async with start(path) as (database, head):
        before = (tmp_path / HEAD_FILE).stat().st_ino
        await head.write()
        assert (tmp_path / HEAD_FILE).stat().st_ino == before
        async with database.transaction() as tx:
            await audit.record_own_act(tx, "CreateModel", "accounts/acme/models/m", "")
        await head.write()
        assert [link.seq for link in read_heads(tmp_path / HEAD_FILE, KEY).links] == [2]


async def test_rows_that_were_cut_off_are_told_of_and_verification_fails_from_then_on(tmp_path: Path) -> None:
    path = await written_log(tmp_path / "hearth.db", 20)
    tamper(path, "DELETE FROM audit_logs WHERE seq > 12")
    loss = "rows 13 to 20 are missing: the log ends before them"
    assert await start_and_stop(path) == [loss], "it starts all the same"
    assert rows(path)[12:] == [("ReportAuditLoss", loss), ("StartDaemon", "version 1")]
    async with start(path) as (database, _), database.transaction() as tx:
        for number in range(20):  # new rows take the numbers of the lost ones
            await audit.record_own_act(tx, "CreateModel", f"accounts/acme/models/m{number}", "")
    verdict = verify_log(path, KEY)
    assert (verdict.seq, verdict.problem) == (13, loss)


async def test_a_person_who_removes_the_head_file_accepts_the_loss_and_leaves_a_trace(tmp_path: Path) -> None:
    path = await written_log(tmp_path / "hearth.db", 20)
    tamper(path, "DELETE FROM audit_logs WHERE seq > 12")
    await start_and_stop(path)
    (tmp_path / HEAD_FILE).unlink()
    (problem,) = await start_and_stop(path)
    assert "audit-head is missing" in problem
    verdict = verify_log(path, KEY)
    assert (verdict.problem, verdict.losses) == ("", [13, 15])
    assert await start_and_stop(path) == []


async def test_rows_that_were_put_in_the_place_of_others_are_told_of(tmp_path: Path) -> None:
    path = await written_log(tmp_path / "hearth.db", 20)
    head = (tmp_path / HEAD_FILE).read_text()
    path.unlink()
    await written_log(path, 25)
    (tmp_path / HEAD_FILE).write_text(head)
    (problem,) = await start_and_stop(path)
    assert "row 20 is not the one" in problem


async def test_another_master_key_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = await written_log(tmp_path / "hearth.db", 20)
    with pytest.raises(HearthError, match="written with another master key"):
        async with start(path, b"b" * 32):
            pass
    assert len(rows(path)) == 20
    assert await start_and_stop(path) == []


@pytest.mark.parametrize("how", ["newest row", "newest row, no head", "first row, no head"])
async def test_a_row_that_was_changed_is_not_taken_for_a_wrong_key(tmp_path: Path, how: str) -> None:
    path = await written_log(tmp_path / "hearth.db", 120)
    tamper(path, f"UPDATE audit_logs SET user_id = 'bob' WHERE seq = {1 if 'first' in how else 120}")
    if "no head" in how:
        (tmp_path / HEAD_FILE).unlink()
    await start_and_stop(path)
    assert verify_log(path, KEY).seq == (1 if "first" in how else 120)
