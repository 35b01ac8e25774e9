import pytest

from appliance.domain import DeployedModel, DeployedModelState, Deployment
from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX, validate_id
from appliance.services.serving import (
    add,
    bury,
    deploy,
    deployed_model_id,
    finish_deploying,
    make_default,
    require_no_addons_on,
    require_no_default_on,
    restore,
    retire,
    undeploy,
)
from appliance.store import deployed_models, models
from appliance.store.database import Database
from tests.appliance.services.samples import addon, deployed, deployment, model, put
from tests.fakes.fake_clock import FakeClock

POET = model("acme", "poet")
RHYMES = addon("acme", "rhymes", POET)
FIRST = deployment("acme", "first", POET.name)
SECOND = deployment("acme", "second", POET.name)
THIRD = deployment("acme", "third", POET.name)


async def deployed_on(database: Database, where: Deployment) -> DeployedModel:
    async with database.reader() as db:
        (found,) = await deployed_models.list_of_deployment(db, where.name)
    return found


async def deploy_all(database: Database, clock: FakeClock, *where: Deployment) -> None:
    for each in where:
        clock.advance(1.0)
        async with database.transaction() as tx:
            await deploy(tx, each)


async def test_the_first_deployment_of_a_model_is_its_default(database: Database) -> None:
    foreign = deployment("globex", "theirs", POET.name)
    await put(database, FIRST, SECOND, foreign)
    async with database.transaction() as tx:
        for each in (FIRST, SECOND, foreign):
            await deploy(tx, each)
    assert (await deployed_on(database, FIRST)).is_default
    assert not (await deployed_on(database, SECOND)).is_default
    assert (await deployed_on(database, foreign)).is_default


@pytest.mark.parametrize("model_id", ["poet", "p" * ID_LENGTH_MAX, "p" * 53 + "-" + "q" * 9])
def test_a_generated_id_shows_the_models_and_keeps_the_rules(model_id: str) -> None:
    first, second = deployed_model_id(model_id), deployed_model_id(model_id)
    assert first != second
    assert first.startswith(model_id[:40])
    validate_id(first, "id")


async def test_a_base_model_is_deployed_once_its_deployment_serves_and_an_addon_is_not(database: Database) -> None:
    await put(database, POET, RHYMES, FIRST)
    loading = deployed(FIRST, "loading", model=RHYMES, state=DeployedModelState.DEPLOYING)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
        await add(tx, loading)
        await finish_deploying(tx, FIRST)
        states = {
            each.model: each.state for each in await deployed_models.list_of_deployment(tx.connection, FIRST.name)
        }
    assert states == {POET.name: DeployedModelState.DEPLOYED, RHYMES.name: DeployedModelState.DEPLOYING}


async def test_making_one_the_default_takes_it_from_the_other(database: Database, clock: FakeClock) -> None:
    await put(database, FIRST, SECOND)
    await deploy_all(database, clock, FIRST, SECOND)
    for chosen, other in ((SECOND, FIRST), (SECOND, FIRST), (FIRST, SECOND)):
        async with database.transaction() as tx:
            await make_default(tx, await deployed_on(database, chosen))
        assert (await deployed_on(database, chosen)).is_default
        assert not (await deployed_on(database, other)).is_default


async def test_a_default_may_leave_when_it_is_the_last_or_no_default_any_more(
    database: Database, clock: FakeClock
) -> None:
    await put(database, FIRST, SECOND)
    await deploy_all(database, clock, FIRST)
    async with database.reader() as db:
        await require_no_default_on(db, FIRST)
    await deploy_all(database, clock, SECOND)
    async with database.reader() as db:
        await require_no_default_on(db, SECOND)
        with pytest.raises(HearthError, match="make one of them the default") as refused:
            await require_no_default_on(db, FIRST)
        assert refused.value.code is Code.FAILED_PRECONDITION
        assert (await deployed_on(database, SECOND)).name in refused.value.message
    async with database.transaction() as tx:
        await make_default(tx, await deployed_on(database, SECOND))
        await require_no_default_on(tx.connection, FIRST)


async def test_addons_are_no_obstacle_once_they_leave(database: Database) -> None:
    await put(database, POET, RHYMES, FIRST)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
        await require_no_addons_on(tx.connection, FIRST)
        rhymes = await add(tx, deployed(FIRST, "rhymes", model=RHYMES))
        with pytest.raises(HearthError, match=rhymes.name) as refused:
            await require_no_addons_on(tx.connection, FIRST)
        assert (refused.value.code, refused.value.param) == (Code.FAILED_PRECONDITION, "enableAddons")
        await retire(tx, rhymes)
        await require_no_addons_on(tx.connection, FIRST)


async def test_the_oldest_that_stays_takes_over_from_a_default_that_leaves(
    database: Database, clock: FakeClock
) -> None:
    await put(database, FIRST, SECOND, THIRD)
    await deploy_all(database, clock, FIRST, SECOND, THIRD)
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


async def test_what_a_deleted_deployment_served_is_invisible_until_it_is_undeleted(database: Database) -> None:
    await put(database, POET, FIRST, SECOND)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
        await undeploy(tx, FIRST)
        await bury(tx, FIRST)
        assert await deployed_models.list_in_account(tx.connection, "acme") == []
        assert await deployed_models.list_everywhere_of_model(tx.connection, POET.name) == []
        await restore(tx, FIRST)
    back = await deployed_on(database, FIRST)
    assert (back.state, back.is_default) == (DeployedModelState.DEPLOYING, True)


async def test_what_comes_back_leaves_the_default_to_who_took_it_over(database: Database, clock: FakeClock) -> None:
    await put(database, POET, FIRST, SECOND)
    await deploy_all(database, clock, FIRST, SECOND)
    async with database.transaction() as tx:
        await undeploy(tx, FIRST)
        await restore(tx, FIRST)
    assert not (await deployed_on(database, FIRST)).is_default
    assert (await deployed_on(database, SECOND)).is_default


async def test_an_addon_undeployed_before_its_deployment_was_deleted_does_not_come_back(database: Database) -> None:
    await put(database, POET, RHYMES, FIRST)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
        await retire(tx, await add(tx, deployed(FIRST, "rhymes", model=RHYMES)))
        await undeploy(tx, FIRST)
        await bury(tx, FIRST)
        await restore(tx, FIRST)
    assert (await deployed_on(database, FIRST)).model == POET.name


async def test_an_addon_whose_model_is_gone_does_not_come_back(database: Database) -> None:
    await put(database, POET, RHYMES, FIRST)
    async with database.transaction() as tx:
        await deploy(tx, FIRST)
        await add(tx, deployed(FIRST, "rhymes", model=RHYMES))
        await undeploy(tx, FIRST)
        await bury(tx, FIRST)
        await models.delete(tx, "acme", "rhymes")
        await restore(tx, FIRST)
    assert (await deployed_on(database, FIRST)).model == POET.name
