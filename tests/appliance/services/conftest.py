"""A real database with two accounts and a library, and the services over it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.config import DatasetSettings, IdentitySettings
from appliance.services.models import Models
from appliance.store import accounts
from appliance.store.database import Database
from tests.appliance.services.dataset_world import DatasetWorld
from tests.appliance.services.model_world import ModelWorld
from tests.appliance.services.samples import ACCOUNT_IDS, account
from tests.fakes.fake_clock import FakeClock
from tests.fakes.tiny_llm import build_tiny_model


@pytest.fixture
def settings() -> IdentitySettings:
    return IdentitySettings(account_id="home", library_account_id="library")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def database(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "hearth.db", bytes(32), clock=clock)
    async with opened.transaction() as tx:
        for account_id in ACCOUNT_IDS:
            await accounts.insert(tx, account(account_id))
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user would upload it."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model", "llama")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def uploads_dir(tmp_path: Path) -> Path:
    path = tmp_path / "uploads"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def model_world(
    tmp_path: Path, database: Database, settings: IdentitySettings, tiny_model: Path, clock: FakeClock
) -> ModelWorld:
    return ModelWorld(tmp_path, database, clock, settings, tiny_model)


@pytest.fixture
def models_service(model_world: ModelWorld) -> Models:
    return model_world.models


@pytest.fixture
def dataset_world(tmp_path: Path, database: Database, clock: FakeClock) -> DatasetWorld:
    settings = DatasetSettings(dataset_upload_bytes_max=100_000, dataset_line_bytes_max=10_000, dataset_chunks_max=10)
    return DatasetWorld(tmp_path, database, clock, settings)
