import asyncio
import os
import stat
from pathlib import Path

import pytest

from appliance.config import IdentitySettings
from appliance.domain import Principal, Role
from appliance.errors import Code, HearthError
from appliance.services.identity import ADMIN_KEY_FILE, ANY_USER, Identity
from appliance.services.key_format import KeyParts, format_key, parse_key
from appliance.store.database import Database
from tests.appliance.services.samples import principal, put, user
from tests.fakes.fake_clock import FakeClock

ADMIN = principal("acme", "root", Role.ADMIN)
CONTRIBUTOR = principal("acme", "ada", Role.CONTRIBUTOR)


@pytest.fixture
async def identity(database: Database, settings: IdentitySettings, clock: FakeClock) -> Identity:
    await put(
        database,
        user("acme", "root", Role.ADMIN),
        user("acme", "ada", Role.CONTRIBUTOR),
        user("globex", "gus", Role.ADMIN),
    )
    return Identity(database, settings, clock)


async def make_key(identity: Identity, who: Principal, expires_at: float | None = None) -> str:
    return (await identity.create_api_key(who, who.account_id, who.user_id, "laptop", expires_at)).key


async def is_accepted(identity: Identity, key: str) -> bool:
    try:
        await identity.authenticate(key)
    except HearthError as error:
        return error.code is not Code.UNAUTHENTICATED
    return True


async def test_the_first_start_leaves_a_key_that_only_the_operator_can_read(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    identity = Identity(database, settings)
    await identity.ensure_first_start(tmp_path)
    path = tmp_path / ADMIN_KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    who = await identity.authenticate(path.read_text().strip())
    assert (who.account_id, who.user_id, who.role) == ("home", "admin", Role.ADMIN)
    assert (await identity.get_account(who, "home")).id == "home"
    assert (await identity.get_account(who, "library")).id == "library"
    assert (await identity.get_user(who, "home", "admin")).role is Role.ADMIN


async def test_later_starts_change_nothing_even_when_the_file_was_moved_away(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    identity = Identity(database, settings)
    await identity.ensure_first_start(tmp_path)
    path = tmp_path / ADMIN_KEY_FILE
    key = path.read_text().strip()
    await identity.ensure_first_start(tmp_path)
    assert path.read_text().strip() == key
    path.unlink()
    await identity.ensure_first_start(tmp_path)
    assert not path.exists()
    assert await is_accepted(identity, key)


async def test_an_operator_without_any_administrators_key_gets_in_again_by_a_restart(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    identity = Identity(database, settings)
    await identity.ensure_first_start(tmp_path)
    path = tmp_path / ADMIN_KEY_FILE
    key = path.read_text().strip()
    who = await identity.authenticate(key)
    await identity.delete_api_key(who, "home", "admin", who.key_id)
    await identity.ensure_first_start(tmp_path)
    assert path.read_text().strip() != key
    assert not await is_accepted(identity, key)
    assert await is_accepted(identity, path.read_text().strip())


async def test_a_key_file_without_its_row_is_replaced(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    """As a crash between the two leaves it."""
    path = tmp_path / ADMIN_KEY_FILE
    path.write_text("fw_never_committed")
    identity = Identity(database, settings)
    await identity.ensure_first_start(tmp_path)
    assert await is_accepted(identity, path.read_text().strip())


async def test_a_key_tells_who_asks(identity: Identity) -> None:
    created = await identity.create_api_key(CONTRIBUTOR, "acme", "ada", "laptop", None)
    for _ in range(2):  # from the store, then from memory
        who = await identity.authenticate(created.key)
        assert who == Principal(account_id="acme", user_id="ada", key_id=created.api_key.id, role=Role.CONTRIBUTOR)


async def test_the_store_never_holds_a_secret(identity: Identity, tmp_path: Path) -> None:
    parts = parse_key(await make_key(identity, CONTRIBUTOR))
    assert parts is not None
    stored = b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if name.startswith("hearth.db"))
    assert parts.id.encode() in stored
    assert parts.secret.encode() not in stored


async def test_a_right_id_with_a_wrong_secret_is_refused_like_an_unknown_id(identity: Identity) -> None:
    parts = parse_key(await make_key(identity, CONTRIBUTOR))
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


async def test_a_key_ends_when_it_expires_also_one_in_memory(identity: Identity, clock: FakeClock) -> None:
    key = await make_key(identity, CONTRIBUTOR, clock() + 60)
    assert await is_accepted(identity, key)
    clock.advance(59.9)
    assert await is_accepted(identity, key)
    clock.advance(0.1)
    assert not await is_accepted(identity, key)


async def test_a_key_that_would_never_be_valid_is_not_made(identity: Identity, clock: FakeClock) -> None:
    with pytest.raises(HearthError) as caught:
        await make_key(identity, CONTRIBUTOR, clock())
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "apiKey.expireTime")


async def test_a_deleted_key_is_refused_from_that_moment_on(identity: Identity) -> None:
    created = await identity.create_api_key(CONTRIBUTOR, "acme", "ada", "laptop", None)
    assert await is_accepted(identity, created.key)
    await identity.delete_api_key(CONTRIBUTOR, "acme", "ada", created.api_key.id)
    assert not await is_accepted(identity, created.key)


async def test_no_look_up_that_races_with_a_deletion_keeps_the_key_alive(identity: Identity) -> None:
    for _ in range(20):
        created = await identity.create_api_key(CONTRIBUTOR, "acme", "ada", "laptop", None)
        await asyncio.gather(
            identity.delete_api_key(CONTRIBUTOR, "acme", "ada", created.api_key.id),
            *(is_accepted(identity, created.key) for _ in range(6)),
        )
        assert not await is_accepted(identity, created.key)


async def test_everybody_manages_his_own_keys_and_an_administrator_all(identity: Identity, clock: FakeClock) -> None:
    own = await identity.create_api_key(CONTRIBUTOR, "acme", "ada", "own", None)
    clock.advance(1.0)
    given = await identity.create_api_key(ADMIN, "acme", "ada", "given", None)
    clock.advance(1.0)
    admins = await identity.create_api_key(ADMIN, "acme", "root", "root", None)
    assert await identity.list_api_keys(CONTRIBUTOR, "acme", "ada") == [own.api_key, given.api_key]
    assert await identity.list_api_keys(CONTRIBUTOR, "acme", ANY_USER) == [own.api_key, given.api_key, admins.api_key]
    with pytest.raises(HearthError) as caught:
        await identity.delete_api_key(CONTRIBUTOR, "acme", ANY_USER, admins.api_key.id)
    assert caught.value.code is Code.FORBIDDEN
    with pytest.raises(HearthError) as caught:
        await identity.create_api_key(CONTRIBUTOR, "acme", "root", "more power", None)
    assert caught.value.code is Code.FORBIDDEN
    await identity.delete_api_key(CONTRIBUTOR, "acme", ANY_USER, given.api_key.id)
    await identity.delete_api_key(ADMIN, "acme", "ada", own.api_key.id)
    assert await identity.list_api_keys(ADMIN, "acme", ANY_USER) == [admins.api_key]


async def test_a_key_made_by_an_administrator_for_another_has_the_others_role(identity: Identity) -> None:
    created = await identity.create_api_key(ADMIN, "acme", "ada", "given", None)
    assert (await identity.authenticate(created.key)).role is Role.CONTRIBUTOR


async def test_users_and_keys_of_other_accounts_do_not_exist(identity: Identity) -> None:
    foreign = await identity.create_api_key(principal("globex", "gus", Role.ADMIN), "globex", "gus", "", None)
    for attempt in (
        identity.create_api_key(ADMIN, "globex", "gus", "", None),
        identity.create_api_key(ADMIN, "acme", "nobody", "", None),
        identity.list_api_keys(ADMIN, "globex", ANY_USER),
        identity.list_api_keys(ADMIN, "library", ANY_USER),
        identity.delete_api_key(ADMIN, "globex", "gus", foreign.api_key.id),
        identity.delete_api_key(ADMIN, "acme", ANY_USER, foreign.api_key.id),
        identity.delete_api_key(ADMIN, "acme", "root", "nokey"),
        identity.get_account(ADMIN, "globex"),
        identity.get_user(ADMIN, "globex", "gus"),
        identity.get_user(ADMIN, "acme", "nobody"),
    ):
        with pytest.raises(HearthError) as caught:
            await attempt
        assert caught.value.code is Code.NOT_FOUND
    assert await is_accepted(identity, foreign.key)


async def test_a_display_name_has_a_limit(identity: Identity) -> None:
    with pytest.raises(HearthError) as caught:
        await identity.create_api_key(ADMIN, "acme", "root", "x" * 64, None)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "apiKey.displayName")
