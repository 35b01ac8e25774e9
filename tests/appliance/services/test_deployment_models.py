import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import (
    ModelState,
)
from appliance.errors import Code
from appliance.services.deployment_spec import DeploymentSpec
from appliance.store import deployments, models
from appliance.store.database import Database
from tests.appliance.services.deployment_service import Service, refusal
from tests.appliance.services.samples import ADA, model, put

POET = model("acme", "poet")


@pytest.fixture
async def service(database: Database, settings: IdentitySettings) -> Service:
    await put(database, POET)
    return Service(database, settings)


@pytest.mark.parametrize(
    ("base_model", "code"),
    [
        ("nothing", Code.NOT_FOUND),
        ("accounts/globex/models/diary", Code.NOT_FOUND),
        ("accounts/acme/models/draft", Code.FAILED_PRECONDITION),
        ("not a name / at all", Code.NOT_FOUND),
    ],
)
async def test_a_base_model_must_be_there_ready_and_in_sight(
    service: Service, database: Database, base_model: str, code: Code
) -> None:
    await put(database, model("globex", "diary"), model("acme", "draft", state=ModelState.UPLOADING))
    error = await refusal(service.create(base_model=base_model))
    assert (error.code, error.param) == (code, "baseModel")


async def test_a_draft_model_must_be_there_ready_and_in_sight_and_is_in_use_then(
    service: Service, database: Database
) -> None:
    await put(database, model("acme", "apprentice"), model("globex", "diary"))
    error = await refusal(service.create(draft_model="accounts/globex/models/diary"))
    assert (error.code, error.param) == (Code.NOT_FOUND, "draftModel")
    created = await service.create(draft_model="apprentice", draft_token_count=4)
    assert created.draft_model == "accounts/acme/models/apprentice"
    async with database.reader() as db:
        assert await deployments.list_of_model(db, created.draft_model) == [created]


async def test_another_base_model_is_another_deployment(service: Service, database: Database) -> None:
    await put(database, model("acme", "bard"))
    await service.create()
    error = await refusal(service.update(base_model="bard"))
    assert (error.code, error.param) == (Code.INVALID, "baseModel")


async def test_what_a_deployment_has_stays_although_its_owner_could_not_ask_for_it_today(
    service: Service, database: Database
) -> None:
    shared = model("globex", "shared", is_public=True)
    await put(database, shared)
    await service.create(base_model=shared.name, draft_model=shared.name)
    async with database.transaction() as tx:
        await models.update(tx, replace(shared, is_public=False))
    changed = await service.update(base_model=shared.name, display_name="Still here")
    assert (changed.display_name, changed.draft_model) == ("Still here", shared.name)


async def test_who_names_no_draft_model_gets_the_models_own(service: Service, database: Database) -> None:
    apprentice = model("acme", "apprentice")
    master = replace(model("acme", "master"), default_draft_model=apprentice.name, default_draft_token_count=3)
    await put(database, apprentice, model("acme", "other"), master)
    silent = await service.create("silent", base_model="master")
    assert (silent.draft_model, silent.draft_token_count) == (apprentice.name, 3)
    named = await service.create("named", base_model="master", draft_model="other")
    assert (named.draft_model, named.draft_token_count) == ("accounts/acme/models/other", None)
    counting = await service.create("counting", base_model="master", ngram_speculation_length=3)
    assert counting.draft_model is None
    spec = DeploymentSpec(base_model="master")
    unwilling = await service.deployments.create(
        ADA, "acme", "unwilling", spec, disable_auto_deploy=False, validate_only=False, takes_default_draft=False
    )
    assert unwilling.draft_model is None
