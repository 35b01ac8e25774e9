from msgspec.structs import replace

from appliance.store import secrets
from appliance.store.database import Database
from tests.appliance.store.samples import SECRET, insert_account


async def test_a_secret_is_found_listed_changed_and_deleted_within_its_account(database: Database) -> None:
    await insert_account(database)
    other = replace(SECRET, id="aws")
    changed = replace(SECRET, key_name="WANDB", sealed_value=b"other", updated_at=9.0)
    async with database.transaction() as tx:
        await secrets.insert(tx, SECRET)
        await secrets.insert(tx, other)
        assert await secrets.get(tx.connection, "acme", "wandb") == SECRET
        assert await secrets.get(tx.connection, "other", "wandb") is None
        await secrets.update(tx, changed)
        assert await secrets.list_in_account(tx.connection, "acme") == [other, changed]
        assert await secrets.list_in_account(tx.connection, "other") == []
        await secrets.delete(tx, "other", "wandb")
        await secrets.delete(tx, "acme", "aws")
        assert await secrets.list_in_account(tx.connection, "acme") == [changed]
