from msgspec.structs import replace

from appliance.domain import SuspendState
from appliance.store import accounts
from appliance.store.database import Database
from tests.appliance.store.samples import ACCOUNT


async def test_an_account_is_found_as_it_was_inserted(database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.insert(tx, ACCOUNT)
    async with database.reader() as db:
        assert await accounts.get(db, "acme") == ACCOUNT
        assert await accounts.get(db, "other") is None


async def test_accounts_are_listed_by_id_and_changed_one_by_one(database: Database) -> None:
    other = replace(ACCOUNT, id="abc")
    changed = replace(ACCOUNT, display_name="New", email="", suspend_state=SuspendState.UNSUSPENDED, updated_at=9.0)
    async with database.transaction() as tx:
        await accounts.insert(tx, ACCOUNT)
        await accounts.insert(tx, other)
        await accounts.update(tx, changed)
        assert await accounts.list_all(tx.connection) == [other, changed]
