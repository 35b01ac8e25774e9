import pytest
from msgspec.structs import replace

from appliance.domain import ModelKind, ModelState
from appliance.errors import Code, HearthError
from appliance.store import accounts, models
from appliance.store.database import Database
from tests.appliance.store.samples import ACCOUNT, INFO, MODEL, insert_account


async def test_a_model_is_found_as_it_was_inserted(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        await models.insert(tx, MODEL)
    async with database.reader() as db:
        assert await models.get(db, "acme", "poet") == MODEL
        assert await models.get(db, "other", "poet") is None


async def test_an_update_writes_every_column(database: Database) -> None:
    await insert_account(database)
    before = replace(
        MODEL,
        display_name="",
        description="",
        state=ModelState.UPLOADING,
        status_message="",
        is_public=False,
        directory="d0",
        info=None,
        base_model=None,
        addon_info=None,
        is_serverless=False,
        created_by="",
        created_at=0.0,
        updated_at=0.0,
    )
    async with database.transaction() as tx:
        await models.insert(tx, before)
        assert await models.get(tx.connection, "acme", "poet") == before
        await models.update(tx, MODEL)
        assert await models.get(tx.connection, "acme", "poet") == MODEL


async def test_lists_are_by_account_and_by_public(database: Database) -> None:
    await insert_account(database)
    private = replace(MODEL, id="diary", directory="d2", is_public=False)
    foreign = replace(MODEL, account_id="other", directory="d3", info=replace(INFO, num_parameters=99))
    async with database.transaction() as tx:
        await accounts.insert(tx, replace(ACCOUNT, id="other"))
        for model in (MODEL, private, foreign):
            await models.insert(tx, model)
        assert await models.list_in_account(tx.connection, "acme") == [private, MODEL]
        assert await models.list_public(tx.connection) == [MODEL, foreign]
        assert await models.list_directories(tx.connection) == {"d1", "d2", "d3"}
        await models.delete(tx, "acme", "poet")
        assert await models.list_public(tx.connection) == [foreign]


async def test_addons_are_found_in_every_account(database: Database) -> None:
    await insert_account(database)
    base = replace(MODEL, id="base", directory="d2", kind=ModelKind.HF_BASE_MODEL, addon_info=None, base_model=None)
    foreign = replace(MODEL, account_id="other", directory="d3")
    async with database.transaction() as tx:
        await accounts.insert(tx, replace(ACCOUNT, id="other"))
        for model in (MODEL, base, foreign):
            await models.insert(tx, model)
        assert await models.list_of_kind(tx.connection, ModelKind.HF_PEFT_ADDON) == [MODEL, foreign]


async def test_a_page_begins_after_an_id(database: Database) -> None:
    await insert_account(database)
    async with database.transaction() as tx:
        for name in ("a", "b", "c"):
            await models.insert(tx, replace(MODEL, id=name, directory=name))
    async with database.reader() as db:
        assert [model.id for model in await models.list_after(db, "acme", "", 2)] == ["a", "b"]
        assert [model.id for model in await models.list_after(db, "acme", "b", 2)] == ["c"]
        assert await models.count_in_account(db, "acme") == 3
        assert await models.count_in_account(db, "other") == 0


async def insert_and_fail(database: Database) -> None:
    async with database.transaction() as tx:
        await models.insert(tx, replace(MODEL, display_name="lost"))
        raise HearthError(Code.CONFLICT, "on purpose")


async def test_a_model_whose_transaction_failed_is_not_remembered(database: Database) -> None:
    await insert_account(database)
    with pytest.raises(HearthError):
        await insert_and_fail(database)
    async with database.transaction() as tx:
        await models.insert(tx, MODEL)
        await models.update(tx, replace(MODEL, display_name="kept"))
    async with database.reader() as db:
        assert [model.display_name for model in await models.list_in_account(db, "acme")] == ["kept"]
