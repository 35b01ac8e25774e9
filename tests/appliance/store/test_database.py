import asyncio
import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from appliance.domain import Account
from appliance.errors import Code, HearthError
from appliance.store import accounts
from appliance.store.database import READERS, Database
from tests.appliance.store.samples import ACCOUNT, NOW

COMMITTING_PROCESS = [sys.executable, "-m", "tests.appliance.store.committing_process"]
KILLS = 20


def account(account_id: str) -> Account:
    return msgspec.structs.replace(ACCOUNT, id=account_id)


async def insert(database: Database, *inserted: Account, error: Exception | None = None) -> None:
    """All of them in one transaction, which the error ends."""
    async with database.transaction() as tx:
        for each in inserted:
            await accounts.insert(tx, each)
        if error is not None:
            raise error


async def stored_ids(database: Database) -> list[str]:
    async with database.reader() as db:
        return [row["id"] for row in await db.execute_fetchall("SELECT id FROM accounts ORDER BY id")]


async def test_writer_and_readers_have_the_settings_that_survive_a_power_cut(database: Database) -> None:
    common: dict[str, int | str] = {
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "temp_store": 2,
        "mmap_size": 0,
    }
    common |= {"busy_timeout": 5000, "journal_mode": "wal"}
    async with database.transaction() as tx, database.reader() as reader:
        for name, value in (common | {"synchronous": 2, "secure_delete": 2, "wal_autocheckpoint": 1000}).items():
            assert [tuple(row) for row in await tx.connection.execute_fetchall(f"PRAGMA {name}")] == [(value,)], name
        for name, value in (common | {"query_only": 1}).items():
            assert [tuple(row) for row in await reader.execute_fetchall(f"PRAGMA {name}")] == [(value,)], name


async def test_rows_are_kept_when_the_transaction_ends_and_carry_its_time(database: Database) -> None:
    async with database.transaction() as tx:
        assert tx.now == NOW
        await accounts.insert(tx, account("a"))
        assert await stored_ids(database) == []
    assert await stored_ids(database) == ["a"]


async def test_an_exception_takes_back_the_whole_transaction(database: Database) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        await insert(database, account("a"), error=RuntimeError("changed my mind"))
    assert await stored_ids(database) == []
    await insert(database, account("b"))
    assert await stored_ids(database) == ["b"]


async def test_a_broken_constraint_is_the_callers_error_and_no_failure_of_the_store(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await insert(database, account("a"), account("a"))
    assert not database.is_failed
    assert await stored_ids(database) == []


async def test_a_cancelled_transaction_is_whole_or_absent_and_leaves_nothing_open(database: Database) -> None:
    """Cancelled ever later: before it begins, in each statement, in the commit, after it."""
    for number in range(30):
        pair = {f"{number}-a", f"{number}-b"}
        task = asyncio.create_task(insert(database, *map(account, sorted(pair))))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        await asyncio.wait({task})
        await insert(database, account(f"{number}-c"))
        kept = {kept_id for kept_id in await stored_ids(database) if kept_id.startswith(f"{number}-")}
        assert kept - {f"{number}-c"} in (set(), pair)


@contextmanager
def no_file_can_grow() -> Iterator[None]:
    """As on a device that takes no more writes; SQLite reports it as an I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def begin_to_leave(database: Database) -> asyncio.Task[None]:
    """A task whose next turn begins its commit."""
    is_leaving = asyncio.Event()

    async def insert_one() -> None:
        async with database.transaction() as tx:
            await accounts.insert(tx, account("a"))
            is_leaving.set()

    task = asyncio.create_task(insert_one())
    await is_leaving.wait()
    return task


async def test_a_commit_under_way_is_finished_before_the_cancellation_goes_on(database: Database) -> None:
    task = await begin_to_leave(database)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored_ids(database) == ["a"]


async def test_a_commit_that_fails_on_the_disk_latches_even_when_its_caller_has_left(database: Database) -> None:
    task = await begin_to_leave(database)
    with no_file_can_grow():
        task.cancel()
        await asyncio.wait({task})
    assert isinstance(task.exception(), HearthError)
    assert database.is_failed
    await database.failed.wait()
    with pytest.raises(HearthError):
        await insert(database, account("b"))
    assert await stored_ids(database) == []


async def test_transactions_of_two_tasks_never_mix(database: Database) -> None:
    has_inserted, may_fail = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        async with database.transaction() as tx:
            await accounts.insert(tx, account("lost"))
            has_inserted.set()
            await may_fail.wait()
            raise RuntimeError

    failing = asyncio.create_task(fail())
    await has_inserted.wait()
    inserting = asyncio.create_task(insert(database, account("kept")))
    await asyncio.sleep(0)
    may_fail.set()
    with pytest.raises(RuntimeError):
        await failing
    await inserting
    assert await stored_ids(database) == ["kept"]


async def test_readers_cannot_write(database: Database) -> None:
    async with database.reader() as db:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await db.execute_fetchall("DELETE FROM accounts")


async def test_more_tasks_than_readers_all_get_their_turn(database: Database) -> None:
    await insert(database, account("a"))
    assert await asyncio.gather(*(stored_ids(database) for _ in range(5 * READERS))) == [["a"]] * (5 * READERS)


async def test_a_full_disk_refuses_what_does_not_fit_and_goes_on(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute_fetchall("PRAGMA max_page_count = 40")
    large = [msgspec.structs.replace(ACCOUNT, id=str(number), email="e" * 4000) for number in range(100)]
    with pytest.raises(HearthError, match="full") as caught:
        await insert(database, *large)
    assert caught.value.code is Code.UNAVAILABLE
    assert not database.is_failed
    await insert(database, account("a"))
    assert await stored_ids(database) == ["a"]


def test_after_the_first_io_error_nothing_more_is_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "hearth.db"
    output = subprocess.run(
        [*COMMITTING_PROCESS, str(path), "200000"], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    lines = output.splitlines()
    acknowledged = [line.split()[1] for line in lines if line.startswith("acknowledged")]
    assert acknowledged
    assert lines[len(acknowledged) :] == ["refused unavailable True"] * 6
    assert reopened_ids(path) >= set(acknowledged)


@pytest.mark.slow
def test_no_acknowledged_row_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "hearth.db"
    acknowledged: set[str] = set()
    for _ in range(KILLS):
        acknowledged |= commit_until_killed(path, chance.randrange(30), chance.random() * 0.01)
    assert reopened_ids(path) >= acknowledged


def commit_until_killed(path: Path, num_acknowledged: int, delay_s: float) -> set[str]:
    """Each start also opens what the kill before it left."""
    with subprocess.Popen([*COMMITTING_PROCESS, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(num_acknowledged)]
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            pass  # it runs until it is killed
        process.kill()
        lines += [line for line in process.stdout if line.endswith("\n")]
    return {line.split()[1] for line in lines}


def reopened_ids(path: Path) -> set[str]:
    async def read() -> set[str]:
        database = await Database.open(path, bytes(32))
        try:
            return set(await stored_ids(database))
        finally:
            await database.close()

    return asyncio.run(read())


async def test_closing_moves_the_journal_into_the_database(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    await insert(database, ACCOUNT)
    await database.close()
    assert os.listdir(tmp_path) == ["hearth.db"]


async def test_a_path_with_signs_that_mean_something_in_an_address_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a b?c#d%20").mkdir()
    database = await Database.open(tmp_path / "a b?c#d%20" / "hearth.db", bytes(32))
    await database.close()
    assert (tmp_path / "a b?c#d%20" / "hearth.db").exists()


async def test_commits_are_counted_and_nothing_else(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    await insert(database, ACCOUNT)
    assert await stored_ids(database)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction():
            raise ZeroDivisionError
    assert database.num_commits == 1
    await database.close()


async def test_it_answers_until_it_has_failed_or_is_closed(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    assert await database.answers()
    database.failed.set()
    assert not await database.answers()
    database.failed.clear()
    await database.close()
    assert not await database.answers()
