import pytest

from appliance.config import IdentitySettings
from appliance.domain import (
    DeployedModelState,
    DeploymentState,
)
from appliance.errors import Code
from appliance.orchestrator.group import ReplicaCounts
from appliance.services.retirement import forget_purged, retire
from appliance.store import deployed_models, deployments, models, scaling_decisions
from appliance.store.database import Database
from tests.appliance.services.deployment_service import PURGE_S, Service, deployed_on, refusal
from tests.appliance.services.samples import ADA, deployed, deployment, model, put
from tests.fakes.fake_clock import FakeClock

POET = model("acme", "poet")
FAST = deployment("acme", "fast", POET.name, desired_replica_count=2)
SLOW = deployment("acme", "slow", POET.name, created_at=1.0)
CREATING, READY = DeploymentState.CREATING, DeploymentState.READY
DELETING = DeploymentState.DELETING


@pytest.fixture
async def service(database: Database, settings: IdentitySettings) -> Service:
    await put(database, POET)
    return Service(database, settings)


async def purge(database: Database) -> None:
    async with database.transaction() as tx:
        await forget_purged(tx)


async def test_a_soft_deleted_deployment_keeps_its_name_until_it_is_purged(
    service: Service, database: Database, clock: FakeClock
) -> None:
    await service.create()
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    await service.observe("fast", 0, 0, 0, 0, 0)
    error = await refusal(service.create())
    assert error.code is Code.CONFLICT
    assert "hard" in error.message
    clock.advance(PURGE_S - 1)
    await purge(database)
    assert (await refusal(service.create())).code is Code.CONFLICT
    clock.advance(1)
    await purge(database)
    await service.create()


async def test_a_hard_deletion_leaves_nothing(service: Service, database: Database) -> None:
    await service.create()
    await service.deployments.delete(ADA, "acme", "fast", hard=True, ignore_checks=False)
    seen = await service.deployments.get(ADA, "acme", "fast")
    assert seen.state is DELETING
    await service.deployments.observe(seen, ReplicaCounts(0, 0, 0, 0, 0), "")
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []
    assert await deployed_on(database, seen) == []
    assert await service.deployments.history(seen) == []
    await service.create()


async def test_a_deleted_deployment_comes_back_with_its_deployed_models_and_its_minimum(
    service: Service, database: Database, clock: FakeClock
) -> None:
    created = await service.create(min_replica_count=1, max_replica_count=3)
    await service.deployments.scale(ADA, "acme", "fast", 3)
    await service.observe("fast", 3, 3, 0, 0, 0)
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    await service.observe("fast", 0, 0, 0, 0, 0)
    clock.advance(PURGE_S - 1)
    back = await service.deployments.undelete(ADA, "acme", "fast")
    assert (back.state, back.desired_replica_count, back.updated_at) == (CREATING, 1, clock())
    assert (back.deleted_at, back.purge_at) == (None, None)
    (deployed_model,) = await deployed_on(database, created)
    assert (deployed_model.state, deployed_model.is_default) == (DeployedModelState.DEPLOYING, True)
    assert (await service.deployments.resolve(ADA, "poet")).deployment == back
    assert (await service.observe("fast", 1, 1, 0, 0, 0)).state is READY
    clock.advance(2.0)
    await purge(database)
    assert (await service.deployments.get(ADA, "acme", "fast")).state is READY
    reasons = [found.reason for found in await service.deployments.history(back)]
    assert reasons == ["undeleted", "deleted", "asked for by :scale"]


async def test_one_that_may_rest_at_zero_comes_back_at_zero_without_its_old_end(
    service: Service, clock: FakeClock
) -> None:
    await service.create(expires_at=clock() + 5.0)
    await service.deployments.delete(ADA, "acme", "fast", hard=False, ignore_checks=False)
    clock.advance(6.0)
    back = await service.deployments.undelete(ADA, "acme", "fast")  # while its replicas are still leaving
    assert (back.state, back.desired_replica_count, back.expires_at) == (READY, 0, None)


async def test_only_what_is_deleted_and_not_purged_is_undeleted(
    service: Service, database: Database, clock: FakeClock
) -> None:
    await service.create()
    undelete = service.deployments.undelete
    assert (await refusal(undelete(ADA, "acme", "fast"))).code is Code.FAILED_PRECONDITION
    assert (await refusal(undelete(ADA, "acme", "nothing"))).code is Code.NOT_FOUND
    await service.deployments.delete(ADA, "acme", "fast", hard=True, ignore_checks=False)
    assert (await refusal(undelete(ADA, "acme", "fast"))).code is Code.NOT_FOUND
    await service.create("late")
    await service.deployments.delete(ADA, "acme", "late", hard=False, ignore_checks=False)
    async with database.transaction() as tx:
        await models.delete(tx, POET.account_id, POET.id)
    assert (await refusal(undelete(ADA, "acme", "late"))).param == "baseModel"
    clock.advance(PURGE_S)
    assert (await refusal(undelete(ADA, "acme", "late"))).code is Code.NOT_FOUND


async def test_it_is_undeployed_and_wants_no_replicas_and_can_be_undeleted_for_a_while(
    database: Database, clock: FakeClock
) -> None:
    await put(database, POET, FAST, SLOW, deployed(FAST, "one"), deployed(SLOW, "two", is_default=False))
    async with database.transaction() as tx:
        await retire(tx, FAST, "unused for 5 s", purge_s=600.0, keep=10)
    async with database.reader() as db:
        row = await deployments.get(db, "acme", "fast")
        (first,) = await deployed_models.list_of_deployment(db, FAST.name)
        (second,) = await deployed_models.list_of_deployment(db, SLOW.name)
        (decision,) = await scaling_decisions.list_of_deployment(db, "acme", "fast", 10)
    assert row is not None
    assert (row.state, row.desired_replica_count) == (DeploymentState.DELETING, 0)
    assert (row.deleted_at, row.purge_at) == (clock.now, clock.now + 600.0)
    assert first.state is DeployedModelState.UNDEPLOYING
    assert second.is_default, "the other deployment of the model takes over its plain name"
    assert (decision.to_count, decision.reason) == (0, "unused for 5 s")


async def test_one_at_zero_replicas_goes_all_the_same(database: Database) -> None:
    await put(database, POET, deployment("acme", "idle", POET.name, desired_replica_count=0))
    async with database.transaction() as tx:
        row = await deployments.get(tx.connection, "acme", "idle")
        assert row is not None
        gone = await retire(tx, row, "its expireTime is over", purge_s=600.0, keep=10)
    async with database.reader() as db:
        assert await deployments.get(db, "acme", "idle") == gone
    assert gone.state is DeploymentState.DELETING
