import pytest
from msgspec.structs import replace

from appliance.domain import AcceleratorUser
from appliance.store import accelerator_usage
from appliance.store.database import Database
from appliance.store.token_usage import BUCKET_S, bucket_at
from tests.appliance.store.samples import NOW

USER = AcceleratorUser(account_id="acme", deployment="d", base_model="m", accelerator_type="CPU")
HERE = bucket_at(NOW)


async def test_seconds_of_the_same_deployment_add_up_by_type(database: Database) -> None:
    other = replace(USER, accelerator_type="NVIDIA_L4_24GB")
    async with database.transaction() as tx:
        await accelerator_usage.add(tx, {USER: 1.5})
        await accelerator_usage.add(tx, {USER: 2.0, other: 4.0})
    async with database.reader() as db:
        found = dict(await accelerator_usage.sum_between(db, "acme", HERE, HERE + BUCKET_S))
        assert found == {USER: pytest.approx(3.5), other: 4.0}
        assert await accelerator_usage.sum_between(db, "globex", HERE, HERE + BUCKET_S) == []
        assert await accelerator_usage.sum_since(db, HERE + 1) == []


async def test_what_is_older_than_asked_for_is_deleted(database: Database) -> None:
    async with database.transaction() as tx:
        await accelerator_usage.add(tx, {USER: 1.5})
        await accelerator_usage.delete_before(tx, HERE + 1)
        assert await accelerator_usage.sum_since(tx.connection, 0.0) == []
