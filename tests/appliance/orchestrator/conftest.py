from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.domain import Account
from appliance.store import accounts
from appliance.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    async with database.transaction() as tx:
        await accounts.insert(tx, Account(id="acme", created_at=0.0, updated_at=0.0))
    yield database
    await database.close()
