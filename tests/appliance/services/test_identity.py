import asyncio

import pytest
from msgspec.structs import replace

from appliance.domain import Principal, Role, SuspendState
from appliance.errors import HearthError
from appliance.services.api_keys import ANY_USER, ApiKeyAsk, ApiKeys
from appliance.services.identity import Identity
from appliance.services.key_format import KeyParts, format_key, parse_key
from appliance.store import accounts, users
from appliance.store.database import Database
from tests.appliance.services.people import CONTRIBUTOR, ROOT, is_accepted, make_key, put_people
from tests.appliance.services.samples import account, user
from tests.fakes.fake_clock import FakeClock


@pytest.fixture
async def identity(database: Database, clock: FakeClock) -> Identity:
    await put_people(database)
    return Identity(database, clock)


@pytest.fixture
def api_keys(database: Database, identity: Identity) -> ApiKeys:
    return ApiKeys(database, identity)


async def test_a_key_tells_who_asks(identity: Identity, api_keys: ApiKeys) -> None:
    created = await api_keys.create(CONTRIBUTOR, "acme", "ada", ApiKeyAsk())
    for _ in range(2):  # from the store, then from memory
        who = await identity.authenticate(created.key)
        assert who == Principal(account_id="acme", user_id="ada", key_id=created.api_key.id, role=Role.CONTRIBUTOR)


async def test_a_right_id_with_a_wrong_secret_is_refused_like_an_unknown_id(
    identity: Identity, api_keys: ApiKeys
) -> None:
    parts = parse_key(await make_key(api_keys, CONTRIBUTOR))
    assert parts is not None
    messages = set()
    for wrong in (
        format_key(KeyParts(parts.id, "A" * 43)),
        format_key(KeyParts("unknownunkno", parts.secret)),
        "nonsense",
        "' OR 1=1 --",
        "\ud800",
        "",
    ):
        with pytest.raises(HearthError) as caught:
            await identity.authenticate(wrong)
        messages.add((caught.value.code, caught.value.message))
    assert len(messages) == 1


async def test_a_key_ends_when_it_expires_also_one_in_memory(
    identity: Identity, api_keys: ApiKeys, clock: FakeClock
) -> None:
    key = await make_key(api_keys, CONTRIBUTOR, clock() + 60)
    assert await is_accepted(identity, key)
    clock.advance(59.9)
    assert await is_accepted(identity, key)
    clock.advance(0.1)
    assert not await is_accepted(identity, key)


async def test_a_deleted_key_is_refused_from_that_moment_on(identity: Identity, api_keys: ApiKeys) -> None:
    created = await api_keys.create(CONTRIBUTOR, "acme", "ada", ApiKeyAsk())
    assert await is_accepted(identity, created.key)
    await api_keys.delete(CONTRIBUTOR, "acme", "ada", created.api_key.id)
    assert not await is_accepted(identity, created.key)


async def test_no_look_up_that_races_with_a_deletion_keeps_the_key_alive(identity: Identity, api_keys: ApiKeys) -> None:
    for _ in range(20):
        created = await api_keys.create(CONTRIBUTOR, "acme", "ada", ApiKeyAsk())
        await asyncio.gather(
            api_keys.delete(CONTRIBUTOR, "acme", "ada", created.api_key.id),
            *(is_accepted(identity, created.key) for _ in range(6)),
        )
        assert not await is_accepted(identity, created.key)


async def test_what_a_key_may_do_follows_its_user_and_account_at_once(identity: Identity, api_keys: ApiKeys) -> None:
    key = await make_key(api_keys, CONTRIBUTOR)
    assert (await identity.authenticate(key)).role is Role.CONTRIBUTOR
    async with identity.changing() as tx:
        await users.update(tx, user("acme", "ada", Role.INFERENCE_USER))
        await accounts.update(tx, replace(account("acme"), suspend_state=SuspendState.CREDIT_DEPLETED))
    who = await identity.authenticate(key)
    assert (who.role, who.suspend_state) == (Role.INFERENCE_USER, SuspendState.CREDIT_DEPLETED)


async def test_no_look_up_that_races_with_a_change_keeps_the_older_role(identity: Identity, api_keys: ApiKeys) -> None:
    key = await make_key(api_keys, CONTRIBUTOR)

    async def change(role: Role) -> None:
        async with identity.changing() as tx:
            await users.update(tx, user("acme", "ada", role))

    for role in [Role.USER, Role.INFERENCE_USER] * 10:
        await asyncio.gather(change(role), *(identity.authenticate(key) for _ in range(6)))
        assert (await identity.authenticate(key)).role is role


async def test_when_a_key_was_used_is_stored_later_and_once(
    identity: Identity, api_keys: ApiKeys, database: Database, clock: FakeClock
) -> None:
    created = await api_keys.create(CONTRIBUTOR, "acme", "ada", ApiKeyAsk())
    await identity.authenticate(created.key)
    clock.advance(5.0)
    await identity.authenticate(created.key)
    assert (await api_keys.get(ROOT, "acme", ANY_USER, created.api_key.id)).last_used_at is None
    await identity.flush_used()
    assert (await api_keys.get(ROOT, "acme", ANY_USER, created.api_key.id)).last_used_at == clock()
    num_commits = database.num_commits
    await identity.flush_used()
    assert database.num_commits == num_commits


async def test_a_use_that_is_not_stored_yet_brings_no_revoked_key_back(identity: Identity, api_keys: ApiKeys) -> None:
    created = await api_keys.create(CONTRIBUTOR, "acme", "ada", ApiKeyAsk())
    await identity.authenticate(created.key)
    await api_keys.delete(CONTRIBUTOR, "acme", "ada", created.api_key.id)
    await identity.close()
    assert await api_keys.list(ROOT, "acme", ANY_USER) == []
    assert not await is_accepted(identity, created.key)
