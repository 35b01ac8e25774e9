from collections.abc import Awaitable

import pytest

from appliance.config import IdentitySettings
from appliance.domain import Account, Role, SuspendState
from appliance.errors import Code, HearthError
from appliance.services.accounts import AccountAsk, Accounts
from appliance.services.identity import Identity
from appliance.store.database import Database
from tests.appliance.services.people import FOREIGN_ADMIN, ROOT, audited, is_accepted, put_people
from tests.appliance.services.samples import HOME_ADMIN, account, principal, put, user
from tests.fakes.fake_clock import FakeClock

HOME_USER = principal("home", "ann", Role.USER)
INITECH = AccountAsk(display_name="Initech", email="it@initech.test")


@pytest.fixture
async def identity(database: Database, clock: FakeClock) -> Identity:
    await put(database, account("home"), user("home", "admin", Role.ADMIN))
    await put_people(database)
    return Identity(database, clock)


@pytest.fixture
def accounts(database: Database, settings: IdentitySettings, identity: Identity) -> Accounts:
    return Accounts(database, settings, identity)


async def refusal(attempt: Awaitable[object]) -> tuple[Code, str | None]:
    with pytest.raises(HearthError) as caught:
        await attempt
    return caught.value.code, caught.value.param


def ids(found: list[Account]) -> list[str]:
    return [each.id for each in found]


async def test_a_caller_sees_its_own_account_and_who_keeps_the_box_all(accounts: Accounts) -> None:
    assert ids(await accounts.list(ROOT)) == ["acme"]
    assert ids(await accounts.list(HOME_USER)) == ["home"]
    assert ids(await accounts.list(HOME_ADMIN)) == ["acme", "globex", "home", "library"]
    assert (await accounts.get(HOME_ADMIN, "acme")).id == "acme"
    assert (await accounts.get(ROOT, "library")).id == "library"
    for attempt in (accounts.get(ROOT, "globex"), accounts.get(HOME_USER, "acme"), accounts.get(HOME_ADMIN, "none")):
        assert await refusal(attempt) == (Code.NOT_FOUND, None)


async def test_a_new_account_begins_with_an_administrators_key(accounts: Accounts, identity: Identity) -> None:
    created = await accounts.create(HOME_ADMIN, "initech", INITECH)
    assert (created.account.display_name, created.account.email) == ("Initech", "it@initech.test")
    who = await identity.authenticate(created.first_key.key)
    assert (who.account_id, who.user_id, who.role) == ("initech", "admin", Role.ADMIN)
    assert ids(await accounts.list(who)) == ["initech"]
    assert created.first_key.api_key.email == "it@initech.test"


async def test_only_who_keeps_the_box_makes_and_suspends_accounts(accounts: Accounts) -> None:
    for who in (ROOT, HOME_USER):
        assert await refusal(accounts.create(who, "initech", INITECH)) == (Code.FORBIDDEN, None)
    assert await refusal(accounts.suspend(ROOT, "acme", SuspendState.FAILED_PAYMENTS)) == (Code.FORBIDDEN, None)
    assert await refusal(accounts.suspend(ROOT, "globex", SuspendState.FAILED_PAYMENTS)) == (Code.NOT_FOUND, None)
    assert await refusal(accounts.create(HOME_ADMIN, "acme", INITECH)) == (Code.CONFLICT, "accountId")
    assert await refusal(accounts.create(HOME_ADMIN, "Initech", INITECH)) == (Code.INVALID, "accountId")
    refused = await refusal(accounts.create(HOME_ADMIN, "initech", AccountAsk(email="nowhere")))
    assert refused == (Code.INVALID, "account.email")


async def test_an_account_is_changed_by_its_own_administrators_and_by_who_keeps_the_box(accounts: Accounts) -> None:
    assert (await accounts.update(ROOT, "acme", AccountAsk(display_name="Acme"))).display_name == "Acme"
    changed = await accounts.update(HOME_ADMIN, "acme", AccountAsk(email="it@acme.test"))
    assert (changed.display_name, changed.email) == ("Acme", "it@acme.test")
    for who, account_id, code in (
        (principal("acme", "u", Role.USER), "acme", Code.FORBIDDEN),
        (ROOT, "library", Code.FORBIDDEN),
        (FOREIGN_ADMIN, "acme", Code.NOT_FOUND),
    ):
        assert await refusal(accounts.update(who, account_id, INITECH)) == (code, None)
    assert await refusal(accounts.update(ROOT, "acme", AccountAsk(email="x"))) == (Code.INVALID, "email")


async def test_a_suspension_counts_for_the_next_request_and_so_does_its_end(
    accounts: Accounts, identity: Identity
) -> None:
    key = (await accounts.create(HOME_ADMIN, "initech", INITECH)).first_key.key
    assert (await identity.authenticate(key)).suspend_state is SuspendState.UNSUSPENDED
    suspended = await accounts.suspend(HOME_ADMIN, "initech", SuspendState.CREDIT_DEPLETED)
    assert suspended.suspend_state is SuspendState.CREDIT_DEPLETED
    assert (await identity.authenticate(key)).suspend_state is SuspendState.CREDIT_DEPLETED
    await accounts.suspend(HOME_ADMIN, "initech", SuspendState.UNSUSPENDED)
    assert (await identity.authenticate(key)).suspend_state is SuspendState.UNSUSPENDED
    assert await is_accepted(identity, key)


async def test_the_accounts_of_the_box_itself_cannot_be_suspended(accounts: Accounts) -> None:
    for account_id in ("home", "library"):
        attempt = accounts.suspend(HOME_ADMIN, account_id, SuspendState.BLOCKED_BY_ABUSE_RULE)
        assert await refusal(attempt) == (Code.FAILED_PRECONDITION, None)


async def test_every_change_is_in_the_audit_log_of_the_account_it_is_about(
    accounts: Accounts, database: Database
) -> None:
    await accounts.create(HOME_ADMIN, "initech", INITECH)
    await accounts.update(ROOT, "acme", AccountAsk(email="it@acme.test"))
    await accounts.suspend(HOME_ADMIN, "globex", SuspendState.FAILED_PAYMENTS)
    assert await audited(database) == [
        ("initech", "accounts/initech", ["displayName", "email"]),
        ("acme", "accounts/acme", ["email"]),
        ("globex", "accounts/globex", []),
    ]
