import sqlite3

import pytest
from msgspec.structs import replace

from appliance.domain import DeployedModelState
from appliance.store import deployed_models, deployments
from appliance.store.database import Database
from tests.appliance.store.samples import DEPLOYED_MODEL, DEPLOYMENT, insert_account


async def test_a_deployed_model_is_found_as_it_was_inserted(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await deployed_models.insert(tx, DEPLOYED_MODEL)
    async with database.reader() as db:
        assert await deployed_models.get(db, "acme", "served") == DEPLOYED_MODEL
        assert await deployed_models.get(db, "other", "served") is None


async def test_an_update_writes_every_column(database: Database) -> None:
    await insert_account(database)
    before = replace(
        DEPLOYED_MODEL,
        model="m",
        deployment="d",
        is_default=False,
        state=DeployedModelState.DEPLOYING,
        display_name="",
        created_at=0.0,
        updated_at=0.0,
    )
    async with database.transaction() as tx:
        await deployed_models.insert(tx, before)
        await deployed_models.update(tx, DEPLOYED_MODEL)
        assert await deployed_models.get(tx.connection, "acme", "served") == DEPLOYED_MODEL


async def test_the_default_of_a_model_is_listed_first(database: Database) -> None:
    await insert_account(database)
    older = replace(DEPLOYED_MODEL, id="older", is_default=False, created_at=0.5, deployment="elsewhere")
    async with database.transaction() as tx:
        await deployed_models.insert(tx, older)
        await deployed_models.insert(tx, DEPLOYED_MODEL)
        model, deployment = DEPLOYED_MODEL.model, DEPLOYED_MODEL.deployment
        assert await deployed_models.list_of_model(tx.connection, "acme", model) == [DEPLOYED_MODEL, older]
        assert await deployed_models.list_of_model(tx.connection, "other", model) == []
        assert await deployed_models.list_of_deployment(tx.connection, deployment) == [DEPLOYED_MODEL]
        await deployed_models.delete_of_deployment(tx, deployment)
        assert await deployed_models.list_of_model(tx.connection, "acme", model) == [older]


async def test_a_model_has_one_default_in_an_account(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await deployed_models.insert(tx, DEPLOYED_MODEL)
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as tx:
            await deployed_models.insert(tx, replace(DEPLOYED_MODEL, id="second"))


async def test_those_deleted_are_forgotten_with_their_deployment(database: Database) -> None:
    await insert_account(database)
    deleted = replace(DEPLOYED_MODEL, state=DeployedModelState.DELETED, is_default=False)
    orphan = replace(deleted, id="orphan", deployment="accounts/acme/deployments/gone")
    async with database.transaction() as tx:
        await deployments.insert(tx, DEPLOYMENT)
        await deployed_models.insert(tx, deleted)
        await deployed_models.insert(tx, orphan)
        await deployed_models.delete_orphans(tx)
        assert await deployed_models.get(tx.connection, "acme", deleted.id) == deleted
        assert await deployed_models.get(tx.connection, "acme", "orphan") is None


async def test_a_deployment_serves_a_model_once(database: Database) -> None:
    await insert_account(database)
    active = replace(DEPLOYED_MODEL, state=DeployedModelState.DEPLOYED, is_default=False)
    async with database.transaction() as tx:
        await deployed_models.insert(tx, DEPLOYED_MODEL)  # leaving
        await deployed_models.insert(tx, replace(active, id="second"))
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as tx:
            await deployed_models.insert(tx, replace(active, id="third", state=DeployedModelState.DEPLOYING))


async def test_deleted_ones_are_listed_nowhere_but_with_their_deployment(database: Database) -> None:
    await insert_account(database)
    deleted = replace(DEPLOYED_MODEL, id="deleted", is_default=False, state=DeployedModelState.DELETED)
    async with database.transaction() as tx:
        await deployed_models.insert(tx, DEPLOYED_MODEL)
        await deployed_models.insert(tx, deleted)
        assert await deployed_models.list_in_account(tx.connection, "acme") == [DEPLOYED_MODEL]
        assert await deployed_models.list_everywhere_of_model(tx.connection, DEPLOYED_MODEL.model) == [DEPLOYED_MODEL]
        listed = await deployed_models.list_of_deployment(tx.connection, DEPLOYED_MODEL.deployment)
        assert sorted(each.id for each in listed) == ["deleted", "served"]
        await deployed_models.delete(tx, "acme", "served")
        assert await deployed_models.list_in_account(tx.connection, "acme") == []


async def test_what_went_with_a_purged_deployment_is_forgotten(database: Database) -> None:
    await insert_account(database)
    deleted = replace(DEPLOYED_MODEL, is_default=False, state=DeployedModelState.DELETED)
    async with database.transaction() as tx:
        await deployments.insert(tx, DEPLOYMENT)
        await deployed_models.insert(tx, deleted)
        await deployed_models.insert(tx, replace(DEPLOYED_MODEL, id="leaving", deployment="elsewhere"))
        await deployed_models.delete_orphans(tx)
        assert await deployed_models.get(tx.connection, "acme", deleted.id) == deleted
        await deployments.delete(tx, DEPLOYMENT.account_id, DEPLOYMENT.id)
        await deployed_models.delete_orphans(tx)
        assert await deployed_models.get(tx.connection, "acme", deleted.id) is None
        assert await deployed_models.get(tx.connection, "acme", "leaving") is not None
