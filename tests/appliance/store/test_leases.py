from msgspec.structs import replace

from appliance.store import leases
from appliance.store.database import Database
from tests.appliance.store.samples import LEASE, insert_account


async def test_a_lease_is_found_as_it_was_inserted_until_it_is_deleted(database: Database) -> None:
    await insert_account(database)
    other = replace(LEASE, id="other", created_at=0.5)
    async with database.transaction() as tx:
        await leases.insert(tx, LEASE)
        await leases.insert(tx, other)
    async with database.reader() as db:
        assert await leases.get(db, "lent") == LEASE
        assert await leases.list_all(db) == [other, LEASE]
    async with database.transaction() as tx:
        await leases.extend(tx, "lent", 7.5)
        await leases.delete(tx, "other")
    async with database.reader() as db:
        assert await leases.list_all(db) == [replace(LEASE, expires_at=7.5)]
