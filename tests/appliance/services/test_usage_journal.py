"""Notes of many on their way to the disk: together, once, and none lost when a write fails."""

import asyncio
import sqlite3

import pytest

from appliance.domain import AcceleratorUser, BudgetHold, TokenCounts, TokenUser
from appliance.errors import HearthError
from appliance.services.usage_journal import DAY_S, UsageJournal
from appliance.store import accelerator_usage, budget_holds, token_usage
from appliance.store.database import Database
from appliance.store.token_usage import TokenSum
from tests.appliance.services.accounting_world import USER, counts
from tests.fakes.fake_clock import FakeClock

DEVICES = AcceleratorUser(account_id="acme", deployment="d", base_model="m", accelerator_type="CPU")


@pytest.fixture
def journal(database: Database) -> UsageJournal:
    return UsageJournal(database, kept_days=30)


async def stored(database: Database) -> dict[TokenUser, TokenCounts]:
    async with database.reader() as db:
        return dict(await token_usage.sum_since(db, 0.0))


async def holds(database: Database) -> list[str]:
    async with database.reader() as db:
        return [hold.id for hold in await budget_holds.list_all(db)]


def hold(hold_id: str) -> BudgetHold:
    return BudgetHold(id=hold_id, user=USER, counts=counts(100))


async def test_all_who_wait_at_a_moment_share_a_transaction(journal: UsageJournal, database: Database) -> None:
    before = database.num_commits
    await asyncio.gather(*(journal.open(hold(f"r{number}")) for number in range(50)))
    assert len(await holds(database)) == 50
    await asyncio.gather(*(journal.settle(f"r{number}", counts(2)) for number in range(50)))
    assert database.num_commits <= before + 4
    assert await holds(database) == []
    assert await stored(database) == {USER: counts(100, 500, 50)}


async def test_a_hold_that_is_found_at_start_becomes_usage_as_it_stands(
    journal: UsageJournal, database: Database
) -> None:
    await journal.open(hold("dead"))
    await journal.cover("dead", counts(7))
    await UsageJournal(database, kept_days=30).restore()
    assert await stored(database) == {USER: counts(7)}
    assert await holds(database) == []


async def test_what_is_withdrawn_was_never_used_whether_or_not_it_was_written(
    journal: UsageJournal, database: Database
) -> None:
    await journal.open(hold("written"))
    journal.withdraw("written")
    journal.withdraw("never written")
    await journal.flush()
    assert (await stored(database), await holds(database)) == ({}, [])


async def test_settling_twice_counts_once(journal: UsageJournal, database: Database) -> None:
    await journal.open(hold("r"))
    await journal.settle("r", counts(3))
    await journal.settle("r", counts(3))
    assert await stored(database) == {USER: counts(3)}


async def test_notes_of_a_write_that_failed_are_written_with_the_next(
    journal: UsageJournal, database: Database
) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute("ALTER TABLE token_usage RENAME TO gone")
    journal.add_tokens({USER: counts(1)})
    with pytest.raises(sqlite3.OperationalError):
        await journal.flush()
    journal.add_tokens({USER: counts(2)})
    async with database.transaction() as tx:
        await tx.connection.execute("ALTER TABLE gone RENAME TO token_usage")
    await journal.flush()
    await journal.flush()
    assert await stored(database) == {USER: counts(3, 20, 2)}


async def test_who_gives_up_waiting_leaves_the_write_to_the_others(journal: UsageJournal, database: Database) -> None:
    tasks = [asyncio.create_task(journal.open(hold(f"r{number}"))) for number in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].cancelled()
    assert len(await holds(database)) == 3


async def test_a_store_that_has_failed_refuses_a_hold(journal: UsageJournal, database: Database) -> None:
    database.failed.set()
    with pytest.raises(HearthError):
        await journal.open(hold("r"))


async def test_what_is_old_is_forgotten(journal: UsageJournal, database: Database, clock: FakeClock) -> None:
    journal.add_tokens({USER: counts(1)})
    journal.add_accelerators({DEVICES: 5.0})
    await journal.flush()
    clock.advance(20 * DAY_S)
    await journal.sweep()
    assert await stored(database) == dict([TokenSum(USER, counts(1))])
    clock.advance(11 * DAY_S)
    await journal.sweep()
    assert await stored(database) == {}
    async with database.reader() as db:
        assert await accelerator_usage.sum_since(db, 0.0) == []
