import msgspec
from msgspec.structs import replace

from appliance.domain import Deployment, DeploymentState
from appliance.store import accounts, deployments
from appliance.store.database import Database
from tests.appliance.store.samples import ACCOUNT, DEPLOYMENT, NOW, insert_account


def blank(deployment_id: str, created_at: float = 0.0) -> Deployment:
    """Every column at its default."""
    return Deployment(
        account_id="acme",
        id=deployment_id,
        base_model="accounts/acme/models/other",
        state=DeploymentState.CREATING,
        desired_replica_count=0,
        created_at=created_at,
        updated_at=0.0,
    )


async def test_a_deployment_is_found_as_it_was_inserted(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await deployments.insert(tx, DEPLOYMENT)
        await deployments.insert(tx, blank("blank"))
    async with database.reader() as db:
        assert await deployments.get(db, "acme", "fast") == DEPLOYMENT
        assert await deployments.get(db, "acme", "blank") == blank("blank")
        assert await deployments.get(db, "other", "fast") is None


async def test_an_update_writes_every_column(database: Database) -> None:
    await insert_account(database)
    before = blank("fast")
    names = set(Deployment.__struct_fields__) - {"account_id", "id"}
    assert all(getattr(before, name) != getattr(DEPLOYMENT, name) for name in names)
    async with database.transaction() as tx:
        await deployments.insert(tx, before)
        await deployments.update(tx, DEPLOYMENT)
        assert await deployments.get(tx.connection, "acme", "fast") == DEPLOYMENT


async def test_deleted_deployments_are_listed_only_when_asked_for(database: Database) -> None:
    await insert_account(database)
    first = blank("first", created_at=1.0)
    gone = replace(blank("gone", created_at=2.0), state=DeploymentState.DELETED)
    leaving = replace(blank("leaving", created_at=3.0), state=DeploymentState.DELETING)
    foreign = msgspec.structs.replace(blank("foreign", created_at=4.0), account_id="other")
    async with database.transaction() as tx:
        await accounts.insert(tx, replace(ACCOUNT, id="other"))
        for deployment in (foreign, leaving, gone, first):
            await deployments.insert(tx, deployment)
    async with database.reader() as db:
        assert await deployments.list_in_account(db, "acme", include_deleted=False) == [first, leaving]
        assert await deployments.list_in_account(db, "acme", include_deleted=True) == [first, gone, leaving]
        assert await deployments.list_active(db) == [first, leaving, foreign]
        assert await deployments.list_of_model(db, "accounts/acme/models/other") == [first, leaving, foreign]
        assert await deployments.list_of_model(db, "accounts/acme/models/poet") == []


async def test_only_what_is_deleted_and_due_is_purged(database: Database) -> None:
    await insert_account(database)
    deleted = replace(blank("due"), state=DeploymentState.DELETED, purge_at=NOW)
    kept = [
        replace(blank("early"), state=DeploymentState.DELETED, purge_at=NOW + 1),
        replace(blank("leaving"), state=DeploymentState.DELETING, purge_at=NOW - 1),
        blank("serving"),
    ]
    async with database.transaction() as tx:
        for deployment in (deleted, *kept):
            await deployments.insert(tx, deployment)
        await deployments.purge(tx)
        assert await deployments.list_in_account(tx.connection, "acme", include_deleted=True) == kept
        await deployments.delete(tx, "acme", "early")
        assert await deployments.get(tx.connection, "acme", "early") is None


async def test_times_move_along_with_a_clock_that_jumped_but_never_into_the_future(database: Database) -> None:
    await insert_account(database)
    used = replace(blank("used"), last_used_at=NOW - 500.0)
    never_used = replace(blank("never-used"), created_at=NOW - 400.0)
    ahead = replace(blank("ahead"), last_used_at=NOW + 1e6)
    deleted = replace(blank("deleted"), state=DeploymentState.DELETED, purge_at=NOW + 50.0)
    async with database.transaction() as tx:
        for deployment in (used, never_used, ahead, deleted):
            await deployments.insert(tx, deployment)
        await deployments.move_times(tx, 100.0)
        moved = await deployments.list_in_account(tx.connection, "acme", include_deleted=True)
    found = {deployment.id: deployment for deployment in moved}
    assert found["used"].last_used_at == NOW - 400.0
    assert found["never-used"].last_used_at == NOW - 300.0
    assert found["ahead"].last_used_at == NOW
    assert found["deleted"].purge_at == NOW + 150.0
    assert found["used"].purge_at is None
