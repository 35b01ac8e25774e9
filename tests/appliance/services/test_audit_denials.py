import aiosqlite
import pytest

from appliance.domain import Origin, Principal, Role
from appliance.errors import Code, HearthError
from appliance.services.audit_denials import KINDS_MAX, Attempt, AuditDenials
from appliance.store.database import Database
from tests.fakes.fake_clock import FakeClock

ALICE = Principal(account_id="home", user_id="alice", key_id="k1", role=Role.USER)


def attempt(
    who: Principal | None = ALICE, method: str = "GetModel", address: str = "10.0.0.1", id: str = "m"
) -> Attempt:
    return Attempt(who, Origin(method=method, client_address=address), f"accounts/other/models/{id}")


async def rows(database: Database) -> list[aiosqlite.Row]:
    async with database.reader() as db:
        return list(await db.execute_fetchall("SELECT * FROM audit_logs ORDER BY seq"))


@pytest.fixture
def denials(database: Database, clock: FakeClock) -> AuditDenials:
    return AuditDenials(database, "home", clock=clock)


async def test_the_first_of_a_kind_is_written_at_once_and_the_rest_counted(
    denials: AuditDenials, database: Database, clock: FakeClock
) -> None:
    denials.note(attempt(id="first"), Code.NOT_FOUND)
    await denials.flush()
    for number in range(9999):
        denials.note(attempt(id=f"m{number}"), Code.NOT_FOUND)
    await denials.flush()
    (first,) = await rows(database)
    assert (first["count"], first["resource"], first["outcome"]) == (1, "accounts/other/models/first", "NOT_FOUND")
    assert (first["account_id"], first["user_id"], first["key_id"]) == ("home", "alice", "k1")
    clock.advance(60.0)
    await denials.flush()
    assert [row["count"] for row in await rows(database)] == [1, 9999]
    clock.advance(60.0)
    await denials.flush()
    assert len(await rows(database)) == 2


async def test_who_what_and_how_are_told_apart(denials: AuditDenials, database: Database) -> None:
    denials.note(attempt(), Code.NOT_FOUND)
    denials.note(attempt(), Code.FORBIDDEN)
    denials.note(attempt(method="DeleteModel"), Code.NOT_FOUND)
    denials.note(attempt(address="10.0.0.2"), Code.NOT_FOUND)
    denials.note(attempt(None), Code.UNAUTHENTICATED)
    denials.note(attempt(None), Code.RATE_LIMITED)
    await denials.flush()
    told = [(row["user_id"], row["method"], row["client_address"], row["outcome"]) for row in await rows(database)]
    assert told == [
        ("alice", "GetModel", "10.0.0.1", "NOT_FOUND"),
        ("alice", "GetModel", "10.0.0.1", "PERMISSION_DENIED"),
        ("alice", "DeleteModel", "10.0.0.1", "NOT_FOUND"),
        ("alice", "GetModel", "10.0.0.2", "NOT_FOUND"),
        ("", "GetModel", "10.0.0.1", "UNAUTHENTICATED"),
        ("", "GetModel", "10.0.0.1", "RESOURCE_EXHAUSTED"),
    ]


async def test_a_flood_of_all_kinds_makes_a_bounded_number_of_rows(
    denials: AuditDenials, database: Database, clock: FakeClock
) -> None:
    for number in range(10_000):
        denials.note(attempt(None, address=f"address {number}"), Code.UNAUTHENTICATED)
        if number % 1000 == 0:
            await denials.flush()
    clock.advance(60.0)
    await denials.flush()
    found = await rows(database)
    assert len(found) <= 2 * (KINDS_MAX + 1)
    assert sum(row["count"] for row in found) == 10_000
    nameless = next(row for row in found if not row["client_address"])
    assert nameless["message"] == "of more kinds than are told apart in a minute"


async def test_what_cannot_be_written_is_written_later(
    denials: AuditDenials, database: Database, clock: FakeClock
) -> None:
    denials.note(attempt(), Code.FORBIDDEN)
    async with database.transaction() as tx:
        await tx.connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit_logs BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    clock.advance(60.0)
    with pytest.raises(aiosqlite.IntegrityError):
        await denials.flush()
    async with database.transaction() as tx:
        await tx.connection.execute("DROP TRIGGER full")
    await denials.flush()
    assert [row["count"] for row in await rows(database)] == [1]


async def test_the_end_leaves_nothing_unwritten(denials: AuditDenials, database: Database) -> None:
    denials.note(attempt(), Code.FORBIDDEN)
    await denials.flush()
    denials.note(attempt(), Code.FORBIDDEN)
    await denials.close()
    assert [row["count"] for row in await rows(database)] == [1, 1]


async def test_a_store_that_has_failed_does_not_keep_the_daemon_from_ending(
    denials: AuditDenials, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    denials.note(attempt(), Code.FORBIDDEN)
    database.failed.set()
    await denials.close()
    assert "not in the audit log" in caplog.text
    with pytest.raises(HearthError):
        await denials.flush()
