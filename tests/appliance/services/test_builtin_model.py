import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings
from appliance.domain import Model, ModelKind, ModelState
from appliance.services.builtin_model import install_builtin_model
from appliance.services.models import Models
from appliance.services.targets import find_serverless, find_target
from appliance.store import models
from appliance.store.database import Database
from models.builtin import BuiltinModel
from models.inspection import inspect_model
from models.llm_folder import inspect_llm
from tests.appliance.services.model_world import ModelWorld
from tests.appliance.services.samples import ADA, deployed, deployment, put
from tests.fakes.fake_clock import FakeClock
from tests.fakes.tiny_embedder import build_tiny_embedder
from tests.fakes.tiny_llm import build_tiny_model


async def installed(database: Database) -> Model:
    async with database.reader() as db:
        model = await models.get(db, "library", "ember-chat")
    assert model is not None
    return model


@pytest.fixture(scope="session")
def newer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("newer") / "model", "llama", seed=1)


async def test_the_first_start_brings_a_model_that_its_first_request_deploys(
    models_service: Models, database: Database, settings: IdentitySettings, models_dir: Path, tiny_model: Path
) -> None:
    await models_service.install_builtin()
    model = await installed(database)
    assert (model.state, model.is_public, model.is_serverless) == (ModelState.READY, True, True)
    assert model.display_name == "Ember"
    assert model.info == inspect_llm(models_dir / model.directory) == inspect_llm(tiny_model)
    async with database.reader() as db:
        assert await find_target(db, ADA, "ember-chat", settings) is None
        assert await find_serverless(db, ADA, "ember-chat", settings) == model


async def test_one_that_an_earlier_version_deployed_becomes_serverless_and_keeps_its_deployment(
    models_service: Models, database: Database, settings: IdentitySettings
) -> None:
    await models_service.install_builtin()
    model = await installed(database)
    kept = deployment("library", "ember-chat", model.name)
    async with database.transaction() as tx:
        await models.update(tx, replace(model, is_serverless=False))
    await put(database, kept, deployed(kept, "served"))
    await models_service.install_builtin()
    assert (await installed(database)).is_serverless
    async with database.reader() as db:
        target = await find_target(db, ADA, "ember-chat", settings)
    assert target is not None
    assert target.deployment == kept


async def test_later_starts_copy_nothing(models_service: Models, database: Database, models_dir: Path) -> None:
    await models_service.install_builtin()
    before = await installed(database)
    await models_service.install_builtin()
    assert await installed(database) == before
    assert os.listdir(models_dir) == [before.directory]


async def test_a_damaged_one_is_logged_and_keeps_no_daemon_from_starting(
    database: Database, settings: IdentitySettings, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = ModelWorld(tmp_path, database, clock, settings, builtin=tmp_path / "missing")
    await world.models.install_builtin()
    assert "the built-in model ember-chat cannot be installed" in caplog.text
    async with database.reader() as db:
        assert await models.get(db, "library", "ember-chat") is None


async def test_a_newer_one_replaces_the_one_there(
    models_service: Models, database: Database, models_dir: Path, uploads_dir: Path, newer_model: Path
) -> None:
    await models_service.install_builtin()
    before = await installed(database)
    newer = BuiltinModel("ember-chat", newer_model, "Ember")
    await install_builtin_model(database, "library", newer, models_dir, uploads_dir)
    after = await installed(database)
    assert after.info == inspect_llm(newer_model) != before.info
    assert os.listdir(models_dir) == [after.directory]
    assert os.listdir(uploads_dir) == []


async def test_files_that_were_lost_come_back(models_service: Models, database: Database, models_dir: Path) -> None:
    await models_service.install_builtin()
    shutil.rmtree(models_dir / (await installed(database)).directory)
    await models_service.install_builtin()
    model = await installed(database)
    assert inspect_llm(models_dir / model.directory) == model.info


async def test_models_of_every_kind_can_come_with_it(
    model_world: ModelWorld, database: Database, settings: IdentitySettings, models_dir: Path, tmp_path: Path
) -> None:
    folder = build_tiny_embedder(tmp_path / "bert", "bert")
    builtin = BuiltinModel("ember-embed", folder, "Ember Embed")
    library = settings.library_account_id
    await install_builtin_model(database, library, builtin, models_dir, model_world.uploads_dir)
    async with database.reader() as db:
        model = await models.get(db, library, "ember-embed")
    assert model is not None
    assert (model.kind, model.is_serverless) == (ModelKind.EMBEDDING_MODEL, True)
    assert inspect_model(models_dir / model.directory) == model.info
