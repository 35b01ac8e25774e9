from msgspec.structs import replace

from appliance.store import replicas
from appliance.store.database import Database
from tests.appliance.store.samples import REPLICA


async def test_a_replica_needs_no_deployment_and_its_new_process_replaces_the_old(database: Database) -> None:
    newer = replace(
        REPLICA,
        device_ids=["GPU-3"],
        reserved_bytes=1,
        pid=4243,
        pid_started_ticks=2,
        boot_id="again",
        started_at=9.5,
    )
    async with database.transaction() as tx:
        await replicas.put(tx, REPLICA)
        assert await replicas.list_all(tx.connection) == [REPLICA]
        await replicas.put(tx, newer)
        assert await replicas.list_all(tx.connection) == [newer]


async def test_a_replica_is_deleted_by_account_deployment_and_index(database: Database) -> None:
    second = replace(REPLICA, index=8)
    async with database.transaction() as tx:
        await replicas.put(tx, second)
        await replicas.put(tx, REPLICA)
        await replicas.delete(tx, "other", "fast", 7)
        assert await replicas.list_all(tx.connection) == [REPLICA, second]
        await replicas.delete(tx, "acme", "fast", 7)
        assert await replicas.list_all(tx.connection) == [second]
