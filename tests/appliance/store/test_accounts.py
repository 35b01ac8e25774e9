from appliance.store import accounts
from appliance.store.database import Database
from tests.appliance.store.samples import ACCOUNT


async def test_an_account_is_found_as_it_was_inserted(database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.insert(tx, ACCOUNT)
    async with database.reader() as db:
        assert await accounts.get(db, "acme") == ACCOUNT
        assert await accounts.get(db, "other") is None
