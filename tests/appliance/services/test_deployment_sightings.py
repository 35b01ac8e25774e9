import pytest

from appliance.config import IdentitySettings
from appliance.domain import (
    DeploymentState,
    Precision,
)
from appliance.orchestrator.group import ReplicaCounts
from appliance.store import deployments
from appliance.store.database import Database
from tests.appliance.services.deployment_service import Service
from tests.appliance.services.samples import ADA, deployment, model, put
from tests.fakes.fake_clock import FakeClock

POET = model("acme", "poet")
CREATING, READY, FAILED = DeploymentState.CREATING, DeploymentState.READY, DeploymentState.FAILED
UPDATING = DeploymentState.UPDATING


@pytest.fixture
async def service(database: Database, settings: IdentitySettings) -> Service:
    await put(database, POET)
    return Service(database, settings)


async def test_an_observation_is_written_once_and_is_no_change_of_what_is_asked(
    service: Service, database: Database, clock: FakeClock
) -> None:
    created = await service.create()
    clock.advance(5.0)
    waiting = await service.observe("fast", 1, 0, 0, 1, 0, message="needs 31.2 GiB, free 27.8")
    assert (waiting.state, waiting.status_message) == (CREATING, "needs 31.2 GiB, free 27.8")
    assert waiting.updated_at == created.updated_at
    async with database.transaction() as tx:  # nobody else may write now, so this one must not try
        await service.deployments.observe(waiting, ReplicaCounts(1, 0, 0, 1, 0), waiting.status_message)
        assert await deployments.get(tx.connection, "acme", "fast") == waiting
    failed = await service.observe("fast", 1, 0, 0, 0, 1, message="replica 0 failed")
    assert (failed.state, failed.status_message) == (FAILED, "replica 0 failed")
    assert (await service.observe("fast", 1, 1, 0, 0, 0)).status_message == ""


async def test_the_last_words_of_a_worker_are_kept_until_the_deployment_serves_again(service: Service) -> None:
    await service.create()
    failed = await service.observe("fast", 1, 0, 0, 0, 1, message="replica 0 failed", last_words="out of memory")
    assert (failed.state, failed.termination_message) == (FAILED, "out of memory")
    trying = await service.observe("fast", 1, 0, 1, 0, 0)
    assert (trying.state, trying.termination_message) == (CREATING, "out of memory")
    assert (await service.observe("fast", 1, 1, 0, 0, 0)).termination_message == ""


async def test_an_observation_of_another_desired_count_is_out_of_date(service: Service) -> None:
    held = await service.create(max_replica_count=1)
    await service.deployments.scale(ADA, "acme", "fast", 0)
    await service.deployments.scale(ADA, "acme", "fast", 1)
    await service.deployments.observe(held, ReplicaCounts(0, 0, 0, 0, 0), "")
    assert (await service.deployments.get(ADA, "acme", "fast")).state is CREATING


async def test_an_observation_of_an_older_revision_is_out_of_date(service: Service) -> None:
    await service.create()
    before = await service.observe("fast", 1, 1, 0, 0, 0)
    await service.update(precision=Precision.FP16)
    await service.deployments.observe(before, ReplicaCounts(1, 1, 0, 0, 0), "")
    await service.deployments.observe(before, ReplicaCounts(1, 0, 0, 0, 1), "failed")
    assert (await service.deployments.get(ADA, "acme", "fast")).state is UPDATING


async def test_an_observation_of_a_deployment_that_is_gone_is_nothing(service: Service) -> None:
    await service.deployments.observe(deployment("acme", "gone", POET.name), ReplicaCounts(1, 0, 0, 0, 1), "failed")
    assert await service.deployments.list(ADA, "acme", show_deleted=True) == []
