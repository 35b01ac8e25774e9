import os
import shutil
from pathlib import Path

import pytest

from appliance.config import IdentitySettings
from appliance.domain import DeployedModelState, DeploymentState, Model, ModelState
from appliance.services.builtin_model import BuiltinModel, install_builtin_model
from appliance.services.models import Models
from appliance.services.targets import find_target
from appliance.store import deployed_models, deployments, models
from appliance.store.database import Database
from models.inspection import inspect_model
from tests.appliance.services.samples import ADA, SIGNING_KEY
from tests.fakes.tiny_llm import build_tiny_model


async def installed(database: Database) -> Model:
    async with database.reader() as db:
        model = await models.get(db, "library", "ember-chat")
    assert model is not None
    return model


@pytest.fixture(scope="session")
def newer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("newer") / "model", "llama", seed=1)


async def test_the_first_start_brings_a_model_that_wakes_on_its_first_request(
    models_service: Models, database: Database, settings: IdentitySettings, models_dir: Path, tiny_model: Path
) -> None:
    await models_service.install_builtin()
    model = await installed(database)
    assert (model.state, model.is_public, model.display_name) == (ModelState.READY, True, "Ember")
    assert model.info == inspect_model(models_dir / model.directory) == inspect_model(tiny_model)
    async with database.reader() as db:
        target = await find_target(db, ADA, "ember-chat", settings)
        deployed = await deployed_models.list_of_model(db, "library", model.name)
    assert target is not None
    deployment = target.deployment
    assert deployment.name == "accounts/library/deployments/ember-chat"
    counts = (deployment.min_replica_count, deployment.max_replica_count, deployment.desired_replica_count)
    assert counts == (0, 1, 0)
    assert [(each.is_default, each.state) for each in deployed] == [(True, DeployedModelState.DEPLOYING)]


async def test_later_starts_copy_nothing(models_service: Models, database: Database, models_dir: Path) -> None:
    await models_service.install_builtin()
    before = await installed(database)
    await models_service.install_builtin()
    assert await installed(database) == before
    assert os.listdir(models_dir) == [before.directory]


async def test_a_damaged_one_is_logged_and_keeps_no_daemon_from_starting(
    database: Database, settings: IdentitySettings, models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = Models(
        database,
        settings,
        models_dir=models_dir,
        uploads_dir=models_dir,
        signing_key=SIGNING_KEY,
        file_bytes_max=1,
        builtin=BuiltinModel("ember-chat", models_dir / "missing", "Ember"),
    )
    await service.install_builtin()
    assert "the built-in model cannot be installed" in caplog.text
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
    assert after.info == inspect_model(newer_model) != before.info
    assert os.listdir(models_dir) == [after.directory]
    assert os.listdir(uploads_dir) == []


async def test_files_that_were_lost_come_back(models_service: Models, database: Database, models_dir: Path) -> None:
    await models_service.install_builtin()
    shutil.rmtree(models_dir / (await installed(database)).directory)
    await models_service.install_builtin()
    model = await installed(database)
    assert inspect_model(models_dir / model.directory) == model.info


async def test_a_deployment_that_an_operator_deleted_stays_deleted(
    models_service: Models, database: Database, settings: IdentitySettings
) -> None:
    await models_service.install_builtin()
    async with database.transaction() as tx:
        await deployed_models.delete_of_deployment(tx, "accounts/library/deployments/ember-chat")
        await deployments.delete(tx, "library", "ember-chat")
    await models_service.install_builtin()
    async with database.reader() as db:
        assert await find_target(db, ADA, "ember-chat", settings) is None


async def test_a_deployment_deleted_softly_is_not_doubled_with_a_new_model(
    models_service: Models, database: Database
) -> None:
    await models_service.install_builtin()
    async with database.transaction() as tx:
        deployment = await deployments.get(tx.connection, "library", "ember-chat")
        assert deployment is not None
        await models.delete(tx, "library", "ember-chat")
    await models_service.install_builtin()
    assert (await installed(database)).state is ModelState.READY
    async with database.reader() as db:
        found = await deployments.get(db, "library", "ember-chat")
    assert found == deployment
    assert found.state is DeploymentState.CREATING
