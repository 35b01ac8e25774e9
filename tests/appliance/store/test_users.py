import sqlite3

import msgspec
import pytest
from msgspec.structs import replace

from appliance.domain import Role
from appliance.store import users
from appliance.store.database import Database
from tests.appliance.store.samples import USER, insert_account


async def test_a_user_is_found_as_it_was_inserted(database: Database) -> None:
    await insert_account(database)
    async with database.reader() as db:
        assert await users.get(db, "acme", "ada") == USER
        assert await users.get(db, "acme", "bob") is None
        assert await users.get(db, "other", "ada") is None


async def test_a_user_needs_an_account(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as tx:
            await users.insert(tx, msgspec.structs.replace(USER, account_id="nowhere"))


async def test_users_are_found_by_address_and_by_role_in_their_account_alone(database: Database) -> None:
    await insert_account(database)
    root = replace(USER, id="root", email="", role=Role.ADMIN, created_at=0.5)
    async with database.transaction() as tx:
        await users.insert(tx, root)
        assert await users.list_in_account(tx.connection, "acme") == [root, USER]
        assert await users.list_with_role(tx.connection, "acme", Role.ADMIN) == [root]
        assert await users.list_with_role(tx.connection, "other", Role.ADMIN) == []
        assert await users.find_by_email(tx.connection, "acme", "ADA@acme.TEST") == USER
        assert await users.find_by_email(tx.connection, "other", "ada@acme.test") is None
        assert await users.find_by_email(tx.connection, "acme", "") is None


async def test_an_address_is_one_users_in_an_account_however_it_is_written(database: Database) -> None:
    await insert_account(database)
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as tx:
            await users.insert(tx, replace(USER, id="eva", email="Ada@Acme.test"))
    async with database.transaction() as tx:
        for user_id in ("eva", "bob"):
            await users.insert(tx, replace(USER, id=user_id, email=""))


async def test_a_user_is_changed_and_deleted(database: Database) -> None:
    await insert_account(database)
    changed = replace(USER, display_name="A", email="a@acme.test", role=Role.USER, updated_at=9.0)
    async with database.transaction() as tx:
        await users.update(tx, changed)
        await users.delete(tx, "other", "ada")
        assert await users.get(tx.connection, "acme", "ada") == changed
        await users.delete(tx, "acme", "ada")
        assert await users.get(tx.connection, "acme", "ada") is None
