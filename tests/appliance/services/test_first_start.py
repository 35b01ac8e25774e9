import stat
from pathlib import Path

from appliance.config import IdentitySettings
from appliance.domain import Role
from appliance.errors import Code, HearthError
from appliance.services.api_keys import ANY_USER, ApiKeys
from appliance.services.first_start import ADMIN_KEY_FILE, ensure_first_start
from appliance.services.identity import Identity
from appliance.services.users import UserAsk, Users
from appliance.store import accounts, api_keys
from appliance.store.database import Database


async def is_accepted(identity: Identity, key: str) -> bool:
    try:
        await identity.authenticate(key)
    except HearthError as error:
        return error.code is not Code.UNAUTHENTICATED
    return True


def written_key(directory: Path) -> str:
    return (directory / ADMIN_KEY_FILE).read_text().strip()


async def test_the_first_start_leaves_a_key_that_only_the_operator_can_read(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    await ensure_first_start(database, settings, tmp_path)
    assert stat.S_IMODE((tmp_path / ADMIN_KEY_FILE).stat().st_mode) == 0o600
    who = await Identity(database).authenticate(written_key(tmp_path))
    assert (who.account_id, who.user_id, who.role) == ("home", "admin", Role.ADMIN)
    async with database.reader() as db:
        assert await accounts.get(db, "home") is not None
        assert await accounts.get(db, "library") is not None


async def test_later_starts_change_nothing_even_when_the_file_was_moved_away(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    await ensure_first_start(database, settings, tmp_path)
    key = written_key(tmp_path)
    await ensure_first_start(database, settings, tmp_path)
    assert written_key(tmp_path) == key
    (tmp_path / ADMIN_KEY_FILE).unlink()
    await ensure_first_start(database, settings, tmp_path)
    assert not (tmp_path / ADMIN_KEY_FILE).exists()
    assert await is_accepted(Identity(database), key)


async def test_an_operator_without_any_administrators_key_gets_in_again_by_a_restart(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    identity = Identity(database)
    await ensure_first_start(database, settings, tmp_path)
    key = written_key(tmp_path)
    who = await identity.authenticate(key)
    await ApiKeys(database, identity).delete(who, "home", ANY_USER, who.key_id)
    await ensure_first_start(database, settings, tmp_path)
    assert written_key(tmp_path) != key
    assert not await is_accepted(identity, key)
    assert await is_accepted(identity, written_key(tmp_path))


async def test_a_first_administrator_who_was_deleted_does_not_come_back(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    """His successor gets the key of an operator who lost all."""
    identity = Identity(database)
    users = Users(database, identity)
    await ensure_first_start(database, settings, tmp_path)
    admin = await identity.authenticate(written_key(tmp_path))
    await users.create(admin, "home", "root", UserAsk(role=Role.ADMIN))
    await users.delete(admin, "home", "admin")
    await ensure_first_start(database, settings, tmp_path)
    who = await identity.authenticate(written_key(tmp_path))
    assert (who.user_id, who.role) == ("root", Role.ADMIN)
    assert [user.id for user in await users.list(who, "home")] == ["root"]


async def test_a_key_file_without_its_row_is_replaced(
    database: Database, settings: IdentitySettings, tmp_path: Path
) -> None:
    """As a crash between the two leaves it."""
    (tmp_path / ADMIN_KEY_FILE).write_text("fw_never_committed")
    await ensure_first_start(database, settings, tmp_path)
    assert await is_accepted(Identity(database), written_key(tmp_path))
    async with database.reader() as db:
        assert len(await api_keys.list_in_account(db, "home")) == 1
