import asyncio
import re

import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import Deployment, DeploymentState
from appliance.errors import Code, HearthError
from appliance.services.serverless import deploy_for_request
from appliance.services.serving import undeploy
from appliance.services.targets import Target
from appliance.store import deployed_models, deployments
from appliance.store.database import Database
from tests.appliance.services.samples import ADA, GUS, deployed, deployment, model, put

EMBER = replace(model("library", "ember"), is_serverless=True)
NAMES = ("ember", EMBER.name, "accounts/library/deployments/ember", f"{EMBER.name}#library/ember")


async def ask(
    database: Database, settings: IdentitySettings, text: str = EMBER.name, who: object = ADA
) -> Target | None:
    return await deploy_for_request(database, who, text, settings)  # type: ignore[arg-type]


async def in_library(database: Database) -> list[Deployment]:
    async with database.reader() as db:
        return await deployments.list_in_account(db, "library", include_deleted=True)


async def change(database: Database, changed: Deployment) -> None:
    async with database.transaction() as tx:
        if changed.state is DeploymentState.DELETING:
            await undeploy(tx, changed)
        await deployments.update(tx, changed)


async def test_the_first_request_makes_the_deployment_that_all_accounts_share(
    database: Database, settings: IdentitySettings
) -> None:
    await put(database, EMBER)
    made = await ask(database, settings)
    assert made is not None
    assert made.model == EMBER
    assert (made.deployment.name, made.deployment.is_serverless) == ("accounts/library/deployments/ember", True)
    counts = (made.deployment.min_replica_count, made.deployment.max_replica_count)
    assert (*counts, made.deployment.desired_replica_count) == (0, 1, 0)
    assert made.deployment.auto_delete_s > 0
    for who in (ADA, GUS):
        for text in NAMES:
            assert await ask(database, settings, text, who) == made
    assert await in_library(database) == [made.deployment]


async def test_first_requests_at_the_same_moment_make_one(database: Database, settings: IdentitySettings) -> None:
    await put(database, EMBER)
    requests = [ask(database, settings, text, who) for text in NAMES for who in (ADA, GUS) for _ in range(5)]
    (made,) = await in_library_after(database, await asyncio.gather(*requests))
    async with database.reader() as db:
        assert len(await deployed_models.list_of_deployment(db, made.name)) == 1


async def in_library_after(database: Database, targets: list[Target | None]) -> list[Deployment]:
    found = await in_library(database)
    assert {target.deployment.name if target else None for target in targets} == {found[0].name}
    return found


async def test_ones_own_deployment_comes_first(database: Database, settings: IdentitySettings) -> None:
    own = deployment("acme", "own", EMBER.name)
    await put(database, EMBER, own, deployed(own, "mine"))
    target = await ask(database, settings)
    assert target is not None
    assert target.deployment == own
    assert await in_library(database) == []


@pytest.mark.parametrize("text", ["nothing", "shared", "acme/ember", "a/b/c", "accounts/library/deployments/shared"])
async def test_what_is_not_serverless_is_not_deployed(
    database: Database, settings: IdentitySettings, text: str
) -> None:
    await put(database, EMBER, model("library", "shared"))
    assert await ask(database, settings, text) is None
    assert await in_library(database) == []


async def test_one_that_was_deleted_is_made_anew_by_the_next_request(
    database: Database, settings: IdentitySettings
) -> None:
    await put(database, EMBER)
    made = await ask(database, settings)
    assert made is not None
    await change(database, replace(made.deployment, state=DeploymentState.DELETING))
    with pytest.raises(HearthError, match=re.escape(made.deployment.name)) as refused:
        await ask(database, settings)
    assert (refused.value.code, refused.value.reason) == (Code.UNAVAILABLE, "DEPLOYMENT_SCALING_UP")
    assert refused.value.retry_after_s
    await change(database, replace(made.deployment, state=DeploymentState.DELETED))
    again = await ask(database, settings)
    assert again is not None
    assert again.deployment.state is DeploymentState.CREATING
    assert await in_library(database) == [again.deployment]


async def test_a_deployment_of_that_id_without_the_models_name_is_left_as_it_is(
    database: Database, settings: IdentitySettings
) -> None:
    kept = deployment("library", "ember", EMBER.name)
    await put(database, EMBER, kept)
    assert await ask(database, settings) is None
    assert await in_library(database) == [kept]
