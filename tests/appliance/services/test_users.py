from collections.abc import Awaitable

import pytest

from appliance.domain import Role
from appliance.errors import Code, HearthError
from appliance.services.api_keys import ANY_USER, ApiKeyAsk, ApiKeys
from appliance.services.identity import Identity
from appliance.services.users import UserAsk, Users
from appliance.store.database import Database
from tests.appliance.services.people import (
    CONTRIBUTOR,
    FOREIGN_ADMIN,
    ROOT,
    audited,
    is_accepted,
    make_key,
    put_people,
)
from tests.appliance.services.samples import principal
from tests.fakes.fake_clock import FakeClock

BOB = UserAsk(role=Role.USER, display_name="Bob", email="bob@acme.test")


@pytest.fixture
async def identity(database: Database, clock: FakeClock) -> Identity:
    await put_people(database)
    return Identity(database, clock)


@pytest.fixture
def api_keys(database: Database, identity: Identity) -> ApiKeys:
    return ApiKeys(database, identity)


@pytest.fixture
def users(database: Database, identity: Identity) -> Users:
    return Users(database, identity)


async def refusal(attempt: Awaitable[object]) -> tuple[Code, str | None]:
    with pytest.raises(HearthError) as caught:
        await attempt
    return caught.value.code, caught.value.param


async def test_a_user_is_as_it_was_asked_for(users: Users, clock: FakeClock) -> None:
    bob = await users.create(ROOT, "acme", "bob", BOB)
    assert (bob.name, bob.role, bob.email, bob.display_name) == (
        "accounts/acme/users/bob",
        Role.USER,
        "bob@acme.test",
        "Bob",
    )
    assert (bob.is_service_account, bob.created_at) == (False, clock())
    assert await users.get(CONTRIBUTOR, "acme", "bob") == bob
    assert [user.id for user in await users.list(CONTRIBUTOR, "acme")] == ["ada", "root", "bob"]


async def test_a_service_account_comes_in_with_keys_that_an_administrator_makes(
    users: Users, api_keys: ApiKeys, identity: Identity
) -> None:
    ask = UserAsk(role=Role.INFERENCE_USER, service_account=True)
    bot = await users.create(ROOT, "acme", "ci-bot", ask)
    assert bot.is_service_account
    created = await api_keys.create(ROOT, "acme", "ci-bot", ApiKeyAsk())
    assert (await identity.authenticate(created.key)).role is Role.INFERENCE_USER
    assert await refusal(api_keys.create(CONTRIBUTOR, "acme", "ci-bot", ApiKeyAsk())) == (Code.FORBIDDEN, None)
    refused = await refusal(users.update(ROOT, "acme", "ci-bot", UserAsk(service_account=False)))
    assert refused == (Code.INVALID, "serviceAccount")


@pytest.mark.parametrize(
    ("email", "user_id"),
    [
        ("Ada.Lovelace+x@acme.test", "ada-lovelace-x"),
        ("42@acme.test", "user-42"),
        ("__@acme.test", "user"),
        (f"{'x' * 64}@acme.test", "x" * 56),
    ],
)
async def test_without_an_id_it_is_made_from_the_address(users: Users, email: str, user_id: str) -> None:
    assert (await users.create(ROOT, "acme", None, UserAsk(role=Role.USER, email=email))).id == user_id


async def test_an_id_made_from_an_address_is_never_taken(users: Users) -> None:
    first = await users.create(ROOT, "acme", None, UserAsk(role=Role.USER, email="bob@acme.test"))
    second = await users.create(ROOT, "acme", None, UserAsk(role=Role.USER, email="bob@acme.example"))
    assert first.id == "bob"
    assert second.id.startswith("bob-")


async def test_what_a_user_cannot_be_is_refused_by_name(users: Users) -> None:
    await users.create(ROOT, "acme", "bob", BOB)
    for user_id, ask, refused in (
        ("eva", UserAsk(), (Code.INVALID, "role")),
        (None, UserAsk(role=Role.USER), (Code.INVALID, "userId")),
        ("Eva", UserAsk(role=Role.USER), (Code.INVALID, "userId")),
        ("-", UserAsk(role=Role.USER), (Code.INVALID, "userId")),
        ("bob", UserAsk(role=Role.USER), (Code.CONFLICT, "userId")),
        ("eva", UserAsk(role=Role.USER, email="BOB@ACME.TEST"), (Code.CONFLICT, "email")),
        ("eva", UserAsk(role=Role.USER, email="bob"), (Code.INVALID, "email")),
        ("eva", UserAsk(role=Role.USER, display_name="x" * 64), (Code.INVALID, "displayName")),
    ):
        assert await refusal(users.create(ROOT, "acme", user_id, ask)) == refused
    assert await refusal(users.update(ROOT, "acme", "ada", UserAsk(email="bob@acme.test"))) == (Code.CONFLICT, "email")


async def test_two_accounts_may_know_the_same_address(users: Users) -> None:
    await users.create(ROOT, "acme", "bob", BOB)
    await users.create(FOREIGN_ADMIN, "globex", "bob", BOB)


async def test_a_change_of_role_counts_for_the_next_request_of_an_existing_key(
    users: Users, api_keys: ApiKeys, identity: Identity
) -> None:
    key = await make_key(api_keys, CONTRIBUTOR)
    for role in Role:
        await users.update(ROOT, "acme", "ada", UserAsk(role=role))
        assert (await identity.authenticate(key)).role is role


async def test_what_is_not_given_stays(users: Users, clock: FakeClock) -> None:
    bob = await users.create(ROOT, "acme", "bob", BOB)
    clock.advance(1.0)
    changed = await users.update(ROOT, "acme", "bob", UserAsk(display_name="", role=Role.USER))
    assert (changed.display_name, changed.email, changed.role) == ("", bob.email, bob.role)
    assert changed.updated_at == clock()
    assert (await users.update(ROOT, "acme", "bob", UserAsk(email=""))).email == ""


async def test_nobody_changes_his_own_role(users: Users) -> None:
    await users.create(ROOT, "acme", "eva", UserAsk(role=Role.ADMIN))
    assert await refusal(users.update(ROOT, "acme", "root", UserAsk(role=Role.USER))) == (Code.FORBIDDEN, "role")
    same = await users.update(ROOT, "acme", "root", UserAsk(role=Role.ADMIN, display_name="Root"))
    assert same.display_name == "Root"


async def test_an_account_keeps_its_last_administrator(users: Users) -> None:
    for attempt in (
        users.update(ROOT, "acme", "root", UserAsk(role=Role.USER)),
        users.delete(ROOT, "acme", "root"),
    ):
        with pytest.raises(HearthError, match="last administrator") as caught:
            await attempt
        assert caught.value.code is Code.FAILED_PRECONDITION
    await users.create(ROOT, "acme", "eva", UserAsk(role=Role.ADMIN))
    await users.delete(ROOT, "acme", "root")
    eva = principal("acme", "eva", Role.ADMIN)
    assert await refusal(users.delete(eva, "acme", "eva")) == (Code.FAILED_PRECONDITION, None)


async def test_a_deleted_users_keys_are_refused_at_once_and_gone(
    users: Users, api_keys: ApiKeys, identity: Identity
) -> None:
    keys = [await make_key(api_keys, CONTRIBUTOR) for _ in range(3)]
    assert [await is_accepted(identity, key) for key in keys] == [True] * 3
    await users.delete(ROOT, "acme", "ada")
    assert [await is_accepted(identity, key) for key in keys] == [False] * 3
    assert await api_keys.list(ROOT, "acme", ANY_USER) == []
    assert await refusal(users.get(ROOT, "acme", "ada")) == (Code.NOT_FOUND, None)


async def test_only_administrators_of_the_account_change_users(users: Users) -> None:
    for who, code in ((CONTRIBUTOR, Code.FORBIDDEN), (principal("acme", "u", Role.USER), Code.FORBIDDEN)):
        for attempt in (
            users.create(who, "acme", "bob", BOB),
            users.update(who, "acme", who.user_id, UserAsk(role=Role.ADMIN)),
            users.delete(who, "acme", "ada"),
        ):
            assert (await refusal(attempt))[0] is code
    others: list[Awaitable[object]] = [
        users.create(FOREIGN_ADMIN, "acme", "bob", BOB),
        users.list(FOREIGN_ADMIN, "acme"),
        users.get(FOREIGN_ADMIN, "acme", "ada"),
        users.update(FOREIGN_ADMIN, "acme", "ada", BOB),
        users.delete(FOREIGN_ADMIN, "acme", "ada"),
        users.get(ROOT, "acme", "nobody"),
    ]
    for other in others:
        assert await refusal(other) == (Code.NOT_FOUND, None)


async def test_every_change_is_in_the_audit_log_by_its_fields(users: Users, database: Database) -> None:
    await users.create(ROOT, "acme", "bob", BOB)
    await users.update(ROOT, "acme", "bob", UserAsk(role=Role.ADMIN))
    await users.delete(ROOT, "acme", "bob")
    name = "accounts/acme/users/bob"
    assert await audited(database) == [
        ("acme", name, ["displayName", "email", "role"]),
        ("acme", name, ["role"]),
        ("acme", name, []),
    ]
