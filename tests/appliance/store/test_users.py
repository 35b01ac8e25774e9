import sqlite3

import msgspec
import pytest

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
