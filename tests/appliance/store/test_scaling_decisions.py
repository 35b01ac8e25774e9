from msgspec.structs import replace

from appliance.store import deployments, scaling_decisions
from appliance.store.database import Database
from tests.appliance.store.samples import DEPLOYMENT, SCALING_DECISION, insert_account


async def test_only_the_newest_decisions_of_a_deployment_stay(database: Database) -> None:
    decisions = [replace(SCALING_DECISION, at=float(at)) for at in range(5)]
    other = replace(SCALING_DECISION, deployment_id="other")
    async with database.transaction() as tx:
        await scaling_decisions.add(tx, other, keep=3)
        for decision in decisions:
            await scaling_decisions.add(tx, decision, keep=3)
    async with database.reader() as db:
        assert await scaling_decisions.list_of_deployment(db, "acme", "fast", 10) == decisions[:1:-1]
        assert await scaling_decisions.list_of_deployment(db, "acme", "fast", 1) == decisions[-1:]
        assert await scaling_decisions.list_of_deployment(db, "acme", "other", 10) == [other]


async def test_the_history_of_a_purged_deployment_is_forgotten(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await deployments.insert(tx, DEPLOYMENT)
        await scaling_decisions.add(tx, SCALING_DECISION, keep=3)
        await scaling_decisions.add(tx, replace(SCALING_DECISION, deployment_id="gone"), keep=3)
        await scaling_decisions.delete_orphans(tx)
    async with database.reader() as db:
        assert await scaling_decisions.list_of_deployment(db, "acme", "fast", 10) == [SCALING_DECISION]
        assert await scaling_decisions.list_of_deployment(db, "acme", "gone", 10) == []
