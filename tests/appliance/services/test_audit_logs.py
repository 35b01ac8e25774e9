import pytest

from appliance.config import IdentitySettings
from appliance.domain import AuditEntry, Origin, Principal, Role, User
from appliance.errors import Code, HearthError
from appliance.services import audit_logs as service
from appliance.services.audit_denials import Attempt, AuditDenials
from appliance.services.audit_logs import SPAN_S, AuditLogs
from appliance.store import accounts, audit_logs, users
from appliance.store.audit_logs import AuditSearch, LoggedEntry, Place
from appliance.store.database import Database
from tests.appliance.services.samples import account
from tests.fakes.fake_clock import FakeClock

ADMIN = Principal(account_id="home", user_id="admin", key_id="k", role=Role.ADMIN)
ALL = AuditSearch("home", 0.0, float("inf"), "", is_newest_first=True)


@pytest.fixture
def logs(database: Database, settings: IdentitySettings, clock: FakeClock) -> AuditLogs:
    return AuditLogs(database, settings, AuditDenials(database, "home", clock=clock), clock=clock)


async def write(database: Database, *times: float, user_id: str = "alice", account_id: str = "home") -> None:
    async with database.transaction() as tx:
        for at in times:
            await audit_logs.append(
                tx,
                AuditEntry(
                    account_id=account_id,
                    at=at,
                    user_account_id="home",
                    user_id=user_id,
                    key_id="k",
                    method="CreateModel",
                    resource=f"accounts/{account_id}/models/m",
                ),
            )


async def read(
    logs: AuditLogs, asked: AuditSearch = ALL, after: Place | None = None, who: Principal = ADMIN
) -> list[LoggedEntry]:
    return [logged async for logged in logs.search(who, asked, after)]


async def test_rows_come_in_the_order_of_time_from_either_end(logs: AuditLogs, database: Database) -> None:
    await write(database, 10.0, 30.0, 20.0, 20.0)  # the clock was set back
    assert [(each.entry.at, each.seq) for each in await read(logs)] == [(30, 2), (20, 4), (20, 3), (10, 1)]
    oldest_first = ALL._replace(is_newest_first=False)
    assert [each.seq for each in await read(logs, oldest_first)] == [1, 3, 4, 2]
    assert [each.seq for each in await read(logs, ALL, Place(20.0, 4))] == [3, 1]
    assert [each.seq for each in await read(logs, oldest_first, Place(20.0, 3))] == [4, 2]


async def test_a_span_has_its_beginning_and_not_its_end(logs: AuditLogs, database: Database) -> None:
    await write(database, 10.0, 20.0, 30.0)
    span = ALL._replace(from_at=10.0, until_at=30.0)
    assert [each.seq for each in await read(logs, span)] == [2, 1]
    assert [each.seq for each in await read(logs, span._replace(is_newest_first=False))] == [1, 2]
    assert await logs.count(ADMIN, span) == 2


async def test_a_user_is_found_by_his_address_and_by_his_id(logs: AuditLogs, database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.insert(tx, account("home"))
        for user_id, email in (("alice", "Alice@Example.com"), ("bob", "")):
            user = User(account_id="home", id=user_id, email=email, role=Role.USER, created_at=1.0, updated_at=1.0)
            await users.insert(tx, user)
    await write(database, 1.0, user_id="alice")
    await write(database, 2.0, user_id="bob")
    for email, seq in (("alice@example.com", 1), ("alice", 1), ("bob", 2)):
        asked = ALL._replace(email=email)
        assert [each.seq for each in await read(logs, asked)] == [seq]
        assert await logs.count(ADMIN, asked) == 1
    assert [each.email for each in await read(logs)] == ["", "Alice@Example.com"]


async def test_more_rows_than_are_read_at_once(
    logs: AuditLogs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ROWS_AT_ONCE", 3)
    await write(database, *(float(at) for at in range(10)))
    assert [each.seq for each in await read(logs)] == list(range(10, 0, -1))


async def test_what_was_refused_just_now_is_in_the_answer(logs: AuditLogs) -> None:
    who = Principal(account_id="home", user_id="bob", key_id="k", role=Role.USER)
    logs.denials.note(Attempt(who, Origin(method="DeleteModel"), "accounts/home/models/m"), Code.FORBIDDEN)
    (found,) = await read(logs)
    assert (found.entry.outcome, found.entry.user_id) == ("PERMISSION_DENIED", "bob")


@pytest.mark.parametrize(
    ("account_id", "is_readable"), [("home", True), ("library", True), ("other", False), ("nowhere", False)]
)
async def test_who_keeps_the_box_reads_the_librarys_and_nobody_anothers(
    logs: AuditLogs, account_id: str, is_readable: bool
) -> None:
    asked = ALL._replace(account_id=account_id)
    if is_readable:
        assert await read(logs, asked) == []
    else:
        with pytest.raises(HearthError) as refused:
            await read(logs, asked)
        assert refused.value.code is Code.NOT_FOUND
        with pytest.raises(HearthError):
            await logs.count(ADMIN, asked)


def test_a_search_that_does_not_say_goes_back_thirty_days(logs: AuditLogs, clock: FakeClock) -> None:
    assert logs.span(None, None) == (clock() - SPAN_S, float("inf"))
    assert logs.span(None, 5e6) == (5e6 - SPAN_S, 5e6)
    assert logs.span(5.0, None) == (5.0, float("inf"))
    with pytest.raises(HearthError, match="before startTime"):
        logs.span(6.0, 6.0)
