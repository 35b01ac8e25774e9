"""Copies of a database at work: consistent, complete, and without a trace on the original."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.domain import Account
from appliance.errors import Code, HearthError
from appliance.store import accounts
from appliance.store.database import Database
from appliance.store.migration import read_migrations
from appliance.store.snapshot import check_copy, copy_database, list_owners, mark_incomplete
from tests.appliance.store.old_databases import NEWEST, make_database


def account_ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {account_id for (account_id,) in db.execute("SELECT id FROM accounts")}


async def test_a_copy_holds_what_was_committed_before_though_writes_go_on(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    committed: list[str] = []

    async def write() -> None:
        while len(committed) < 150:
            async with database.transaction() as tx:
                account = Account(id=f"account-{len(committed)}", created_at=tx.now, updated_at=tx.now)
                await accounts.insert(tx, account)
            committed.append(account.id)

    writing = asyncio.create_task(write())
    for number in range(3):
        while len(committed) < 30 * (number + 1):  # noqa: ASYNC110 - what is waited for is a number
            await asyncio.sleep(0)
        before = set(committed)
        copy = tmp_path / f"copy-{number}.db"
        await asyncio.to_thread(copy_database, tmp_path / "hearth.db", copy)
        assert account_ids(copy) >= before
        assert check_copy(copy, NEWEST) == NEWEST
    await writing
    await database.close()
    assert [name for name in os.listdir(tmp_path) if name.startswith("copy-0")] == ["copy-0.db"]


async def test_a_copy_needs_no_daemon_and_finds_what_a_killed_one_left_in_its_journal(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    async with database.transaction() as tx:
        await accounts.insert(tx, Account(id="late", created_at=tx.now, updated_at=tx.now))
    left = tmp_path / "left"
    left.mkdir()
    for name in ("hearth.db", "hearth.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    await database.close()
    await asyncio.to_thread(copy_database, left / "hearth.db", left / "copy.db")
    assert account_ids(left / "copy.db") == {"late"}


@pytest.mark.parametrize("content", [None, b"", b"not a database at all" * 100])
def test_what_is_no_database_of_ours_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "hearth.db").write_bytes(content)

    def copy_and_check() -> None:
        copy_database(tmp_path / "hearth.db", tmp_path / "copy.db")
        check_copy(tmp_path / "copy.db", NEWEST)

    with pytest.raises(HearthError, match=r"hearth\.db|copy\.db") as caught:
        copy_and_check()
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_the_owners_of_folders_are_found_in_every_schema(tmp_path: Path) -> None:
    for schema in range(1, len(read_migrations()) + 1):
        path = tmp_path / f"schema-{schema}.db"
        make_database(path, schema)
        owner = next(owner for owner in list_owners(path) if owner.folder == "models")
        assert (owner.name, owner.directory, owner.is_ready) == ("accounts/acme/models/m", "dir", True)


async def test_what_lost_its_files_waits_for_them(tmp_path: Path) -> None:
    make_database(tmp_path / "hearth.db", NEWEST)
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    (owner,) = await asyncio.to_thread(list_owners, tmp_path / "hearth.db")
    async with database.transaction() as tx:
        await mark_incomplete(tx, owner, "upload them again")
    await database.close()
    (marked,) = list_owners(tmp_path / "hearth.db")
    assert not marked.is_ready
    with closing(sqlite3.connect(tmp_path / "hearth.db")) as db:
        assert db.execute("SELECT state, status_message FROM models").fetchall() == [("UPLOADING", "upload them again")]
