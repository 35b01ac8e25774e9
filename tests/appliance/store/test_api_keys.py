import sqlite3

import pytest
from msgspec.structs import replace

from appliance.domain import Role
from appliance.store import accounts, api_keys, users
from appliance.store.database import Database
from tests.appliance.store.samples import ACCOUNT, API_KEY, USER, insert_account


async def test_a_key_is_found_by_its_public_id_alone(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await api_keys.insert(tx, API_KEY)
    async with database.reader() as db:
        assert await api_keys.find(db, "key") == API_KEY
        assert await api_keys.find(db, "' OR 1=1 --") is None


async def test_public_ids_are_unique_over_all_accounts(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await accounts.insert(tx, replace(ACCOUNT, id="other"))
        await users.insert(tx, replace(USER, account_id="other"))
        await api_keys.insert(tx, API_KEY)
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as tx:
            await api_keys.insert(tx, replace(API_KEY, account_id="other"))


async def test_keys_are_listed_and_deleted_within_their_account(database: Database) -> None:
    await insert_account(database)
    older = replace(API_KEY, id="older", created_at=0.5, expires_at=None)
    async with database.transaction() as tx:
        await api_keys.insert(tx, API_KEY)
        await api_keys.insert(tx, older)
        await api_keys.delete(tx, "other", "older")
        assert await api_keys.list_in_account(tx.connection, "acme") == [older, API_KEY]
        assert await api_keys.list_in_account(tx.connection, "other") == []
        await api_keys.delete(tx, "acme", "older")
        assert await api_keys.list_in_account(tx.connection, "acme") == [API_KEY]


async def test_a_role_has_a_key_as_long_as_one_is_not_expired(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await api_keys.insert(tx, API_KEY)
        assert await api_keys.exists_with_role(tx.connection, "acme", Role.CONTRIBUTOR, now=3.4)
        assert not await api_keys.exists_with_role(tx.connection, "acme", Role.CONTRIBUTOR, now=3.5)
        assert not await api_keys.exists_with_role(tx.connection, "acme", Role.ADMIN, now=3.4)
        assert not await api_keys.exists_with_role(tx.connection, "other", Role.CONTRIBUTOR, now=3.4)


async def test_the_latest_use_is_kept_and_a_key_that_is_gone_stays_gone(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await api_keys.insert(tx, API_KEY)
        await api_keys.use(tx, {("acme", "key"): 9.0, ("acme", "gone"): 9.0, ("other", "key"): 99.0})
        await api_keys.use(tx, {("acme", "key"): 8.0})
        assert await api_keys.list_in_account(tx.connection, "acme") == [replace(API_KEY, last_used_at=9.0)]


async def test_all_keys_of_a_user_go_together(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await users.insert(tx, replace(USER, id="bob", email=""))
        await api_keys.insert(tx, API_KEY)
        await api_keys.insert(tx, replace(API_KEY, id="second"))
        bobs = replace(API_KEY, id="third", user_id="bob", email="")
        await api_keys.insert(tx, bobs)
        await api_keys.delete_of_user(tx, "acme", "ada")
        assert await api_keys.list_in_account(tx.connection, "acme") == [bobs]
