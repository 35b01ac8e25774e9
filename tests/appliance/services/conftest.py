"""A real database with two accounts and a library, and the services over it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.config import GIB, IdentitySettings
from appliance.services.builtin_model import BuiltinModel
from appliance.services.models import Models
from appliance.store import accounts
from appliance.store.database import Database
from tests.appliance.services.samples import ACCOUNT_IDS, SIGNING_KEY, account
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
    opened = await Database.open(tmp_path / "hearth.db", clock=clock)
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
    path.mkdir()
    return path


@pytest.fixture
def uploads_dir(tmp_path: Path) -> Path:
    path = tmp_path / "uploads"
    path.mkdir()
    return path


@pytest.fixture
def models_service(
    database: Database,
    settings: IdentitySettings,
    models_dir: Path,
    uploads_dir: Path,
    tiny_model: Path,
    clock: FakeClock,
) -> Models:
    return Models(
        database,
        settings,
        models_dir=models_dir,
        uploads_dir=uploads_dir,
        signing_key=SIGNING_KEY,
        file_bytes_max=GIB,
        builtin=BuiltinModel("ember-chat", tiny_model, "Ember"),
        clock=clock,
    )
