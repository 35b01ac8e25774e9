"""The deployed_models table."""

import aiosqlite
import msgspec

from appliance.domain import DeployedModel
from appliance.store.database import Transaction

_COLUMNS = "account_id, id, display_name, model, deployment, is_default, state, created_at, updated_at"
INSERT = f"INSERT INTO deployed_models ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
GET = f"SELECT {_COLUMNS} FROM deployed_models WHERE account_id = ? AND id = ?"
LIST_OF_MODEL = f"""
SELECT {_COLUMNS} FROM deployed_models WHERE account_id = ? AND model = ? ORDER BY is_default DESC, created_at, id
"""
LIST_OF_DEPLOYMENT = f"SELECT {_COLUMNS} FROM deployed_models WHERE deployment = ? ORDER BY created_at, id"
UPDATE = """
UPDATE deployed_models SET
    display_name = ?, model = ?, deployment = ?, is_default = ?, state = ?, created_at = ?, updated_at = ?
WHERE account_id = ? AND id = ?
"""
DELETE_OF_DEPLOYMENT = "DELETE FROM deployed_models WHERE deployment = ?"


async def insert(tx: Transaction, deployed: DeployedModel) -> None:
    await tx.connection.execute(INSERT, (deployed.account_id, deployed.id, *_values(deployed)))


async def get(db: aiosqlite.Connection, account_id: str, deployed_model_id: str) -> DeployedModel | None:
    for row in await db.execute_fetchall(GET, (account_id, deployed_model_id)):
        return _read(row)
    return None


async def list_of_model(db: aiosqlite.Connection, account_id: str, model_name: str) -> list[DeployedModel]:
    """Where this account serves the model; the default first, then the oldest."""
    return [_read(row) for row in await db.execute_fetchall(LIST_OF_MODEL, (account_id, model_name))]


async def list_of_deployment(db: aiosqlite.Connection, deployment_name: str) -> list[DeployedModel]:
    return [_read(row) for row in await db.execute_fetchall(LIST_OF_DEPLOYMENT, (deployment_name,))]


async def update(tx: Transaction, deployed: DeployedModel) -> None:
    """The whole row."""
    await tx.connection.execute(UPDATE, (*_values(deployed), deployed.account_id, deployed.id))


async def delete_of_deployment(tx: Transaction, deployment_name: str) -> None:
    await tx.connection.execute(DELETE_OF_DEPLOYMENT, (deployment_name,))


def _values(deployed: DeployedModel) -> tuple[object, ...]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return (
        deployed.display_name,
        deployed.model,
        deployed.deployment,
        deployed.is_default,
        deployed.state,
        deployed.created_at,
        deployed.updated_at,
    )


def _read(row: aiosqlite.Row) -> DeployedModel:
    return msgspec.convert(dict(row), DeployedModel, strict=False)
