import os
from pathlib import Path

import pytest

from appliance.domain import Role
from appliance.errors import Code, HearthError
from appliance.services.api_keys import ANY_USER, ApiKeyAsk, ApiKeys
from appliance.services.identity import Identity
from appliance.services.key_format import parse_key
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
from tests.fakes.fake_clock import FakeClock

OWN = ApiKeyAsk(display_name="own")


@pytest.fixture
async def identity(database: Database, clock: FakeClock) -> Identity:
    await put_people(database)
    return Identity(database, clock)


@pytest.fixture
def api_keys(database: Database, identity: Identity) -> ApiKeys:
    return ApiKeys(database, identity)


async def test_the_store_never_holds_a_secret(api_keys: ApiKeys, tmp_path: Path) -> None:
    parts = parse_key(await make_key(api_keys, CONTRIBUTOR))
    assert parts is not None
    stored = b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if name.startswith("hearth.db"))
    assert parts.id.encode() in stored
    assert parts.secret.encode() not in stored


async def test_a_key_is_as_it_was_asked_for(api_keys: ApiKeys, clock: FakeClock) -> None:
    ask = ApiKeyAsk(display_name="ci", expire_time=clock() + 60, annotations={"team": "search"})
    created = (await api_keys.create(CONTRIBUTOR, "acme", "ada", ask)).api_key
    assert (created.display_name, created.expires_at) == ("ci", clock() + 60)
    assert created.annotations == {"team": "search"}
    assert await api_keys.get(ROOT, "acme", "ada", created.id) == created
    assert (await api_keys.create(CONTRIBUTOR, "acme", "ada", ApiKeyAsk())).api_key.display_name == "default"


async def test_a_key_that_would_never_be_valid_is_not_made(api_keys: ApiKeys, clock: FakeClock) -> None:
    with pytest.raises(HearthError) as caught:
        await make_key(api_keys, CONTRIBUTOR, clock())
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "apiKey.expireTime")


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (ApiKeyAsk(display_name="x" * 64), "apiKey.displayName"),
        (ApiKeyAsk(annotations={"x": "y" * 20_000}), "apiKey.annotations"),
    ],
)
async def test_texts_have_limits(api_keys: ApiKeys, ask: ApiKeyAsk, param: str) -> None:
    with pytest.raises(HearthError) as caught:
        await api_keys.create(ROOT, "acme", "root", ask)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, param)


async def test_everybody_manages_his_own_keys_and_an_administrator_all(api_keys: ApiKeys, clock: FakeClock) -> None:
    own = await api_keys.create(CONTRIBUTOR, "acme", "ada", OWN)
    clock.advance(1.0)
    given = await api_keys.create(ROOT, "acme", "ada", ApiKeyAsk(display_name="given"))
    clock.advance(1.0)
    admins = await api_keys.create(ROOT, "acme", "root", ApiKeyAsk(display_name="root"))
    assert await api_keys.list(CONTRIBUTOR, "acme", "ada") == [own.api_key, given.api_key]
    assert await api_keys.list(CONTRIBUTOR, "acme", ANY_USER) == [own.api_key, given.api_key, admins.api_key]
    with pytest.raises(HearthError) as caught:
        await api_keys.delete(CONTRIBUTOR, "acme", ANY_USER, admins.api_key.id)
    assert caught.value.code is Code.FORBIDDEN
    with pytest.raises(HearthError) as caught:
        await api_keys.create(CONTRIBUTOR, "acme", "root", ApiKeyAsk(display_name="more power"))
    assert caught.value.code is Code.FORBIDDEN
    await api_keys.delete(CONTRIBUTOR, "acme", ANY_USER, given.api_key.id)
    await api_keys.delete(ROOT, "acme", "ada", own.api_key.id)
    assert await api_keys.list(ROOT, "acme", ANY_USER) == [admins.api_key]


async def test_a_key_made_by_an_administrator_for_another_has_the_others_role(
    api_keys: ApiKeys, identity: Identity
) -> None:
    created = await api_keys.create(ROOT, "acme", "ada", ApiKeyAsk())
    assert (await identity.authenticate(created.key)).role is Role.CONTRIBUTOR


async def test_keys_of_other_accounts_do_not_exist(api_keys: ApiKeys, identity: Identity) -> None:
    foreign = await api_keys.create(FOREIGN_ADMIN, "globex", "gus", ApiKeyAsk())
    for attempt in (
        api_keys.create(ROOT, "globex", "gus", ApiKeyAsk()),
        api_keys.create(ROOT, "acme", "nobody", ApiKeyAsk()),
        api_keys.list(ROOT, "globex", ANY_USER),
        api_keys.list(ROOT, "library", ANY_USER),
        api_keys.get(ROOT, "acme", ANY_USER, foreign.api_key.id),
        api_keys.delete(ROOT, "globex", "gus", foreign.api_key.id),
        api_keys.delete(ROOT, "acme", ANY_USER, foreign.api_key.id),
        api_keys.delete(ROOT, "acme", "root", "nokey"),
    ):
        with pytest.raises(HearthError) as caught:
            await attempt
        assert caught.value.code is Code.NOT_FOUND
    assert await is_accepted(identity, foreign.key)


async def test_making_and_revoking_are_in_the_audit_log_and_the_key_is_not(
    api_keys: ApiKeys, database: Database
) -> None:
    created = await api_keys.create(CONTRIBUTOR, "acme", "ada", OWN)
    await api_keys.delete(CONTRIBUTOR, "acme", "ada", created.api_key.id)
    name = f"accounts/acme/users/ada/apiKeys/{created.api_key.id}"
    assert await audited(database) == [("acme", name, ["displayName"]), ("acme", name, [])]
