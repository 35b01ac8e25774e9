from appliance.domain import DeployedModel, DeployedModelState, Deployment
from appliance.services.deployed_models import deploy, finish_deploying, undeploy
from appliance.store import deployed_models
from appliance.store.database import Database
from tests.appliance.services.samples import deployment, put
from tests.fakes.fake_clock import FakeClock

MODEL = "accounts/acme/models/poet"
FIRST = deployment("acme", "first", MODEL)
SECOND = deployment("acme", "second", MODEL)
THIRD = deployment("acme", "third", MODEL)


async def deployed_on(database: Database, where: Deployment) -> DeployedModel:
    async with database.reader() as db:
        (found,) = await deployed_models.list_of_deployment(db, where.name)
    return found


async def test_the_first_deployment_of_a_model_is_its_default(database: Database) -> None:
    foreign = deployment("globex", "theirs", MODEL)
    await put(database, FIRST, SECOND, foreign)
    async with database.transaction() as tx:
        for each in (FIRST, SECOND, foreign):
            await deploy(tx, each)
    assert (await deployed_on(database, FIRST)).is_default
    assert not (await deployed_on(database, SECOND)).is_default
    assert (await deployed_on(database, foreign)).is_default


async def test_a_deployed_model_is_deployed_once_its_deployment_serves(database: Database) -> None:
    await put(database, FIRST)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
    assert (await deployed_on(database, FIRST)).state is DeployedModelState.DEPLOYING
    async with database.transaction() as tx:
        await finish_deploying(tx, FIRST)
    assert (await deployed_on(database, FIRST)).state is DeployedModelState.DEPLOYED


async def test_the_oldest_that_stays_takes_over_from_a_default_that_leaves(
    database: Database, clock: FakeClock
) -> None:
    await put(database, FIRST, SECOND, THIRD)
    for each in (FIRST, SECOND, THIRD):
        clock.advance(1.0)
        async with database.transaction() as tx:
            await deploy(tx, each)
    for leaving, heir in ((FIRST, SECOND), (SECOND, THIRD)):
        async with database.transaction() as tx:
            await undeploy(tx, leaving)
        assert (await deployed_on(database, leaving)).state is DeployedModelState.UNDEPLOYING
        assert not (await deployed_on(database, leaving)).is_default
        assert (await deployed_on(database, heir)).is_default
    async with database.transaction() as tx:
        await undeploy(tx, THIRD)
    assert not (await deployed_on(database, THIRD)).is_default


async def test_what_is_leaving_is_not_deployed_again_by_a_late_observation(database: Database) -> None:
    await put(database, FIRST)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
        await undeploy(tx, FIRST)
        await finish_deploying(tx, FIRST)
    assert (await deployed_on(database, FIRST)).state is DeployedModelState.UNDEPLOYING
