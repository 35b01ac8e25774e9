"""A real database in a real file for every test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.store.database import Database
from tests.appliance.store.samples import NOW


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "hearth.db", bytes(32), clock=lambda: NOW)
    yield opened
    await opened.close()
