"""The deployed_models table."""

import aiosqlite
import msgspec

from appliance.domain import DeployedModel, DeployedModelState
from appliance.store.database import Transaction

_COLUMNS = """
account_id, id, display_name, description, model, deployment, is_default, is_public, state, status_message, has_failed,
created_at, updated_at
"""
INSERT = f"INSERT INTO deployed_models ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
GET = f"SELECT {_COLUMNS} FROM deployed_models WHERE account_id = ? AND id = ?"
LIST_OF_MODEL = f"""
SELECT {_COLUMNS} FROM deployed_models WHERE account_id = ? AND model = ? ORDER BY is_default DESC, created_at, id
"""
LIST_IN_ACCOUNT = f"""
SELECT {_COLUMNS} FROM deployed_models WHERE account_id = ? AND state != ? ORDER BY created_at, id
"""
LIST_EVERYWHERE_OF_MODEL = (
    f"SELECT {_COLUMNS} FROM deployed_models WHERE model = ? AND state != ? ORDER BY created_at, id"
)
LIST_OF_DEPLOYMENT = f"SELECT {_COLUMNS} FROM deployed_models WHERE deployment = ? ORDER BY created_at, id"
UPDATE = """
UPDATE deployed_models SET
    display_name = ?, description = ?, model = ?, deployment = ?, is_default = ?, is_public = ?, state = ?,
    status_message = ?, has_failed = ?, created_at = ?, updated_at = ?
WHERE account_id = ? AND id = ?
"""
DELETE_ORPHANS = """
DELETE FROM deployed_models WHERE state = ? AND NOT EXISTS (
    SELECT 1 FROM deployments
    WHERE deployed_models.deployment = 'accounts/' || deployments.account_id || '/deployments/' || deployments.id
)
"""
DELETE = "DELETE FROM deployed_models WHERE account_id = ? AND id = ?"
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


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[DeployedModel]:
    """Oldest first, without those DELETED."""
    rows = await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id, DeployedModelState.DELETED))
    return [_read(row) for row in rows]


async def list_everywhere_of_model(db: aiosqlite.Connection, model_name: str) -> list[DeployedModel]:
    """Of every account, oldest first, without those DELETED."""
    rows = await db.execute_fetchall(LIST_EVERYWHERE_OF_MODEL, (model_name, DeployedModelState.DELETED))
    return [_read(row) for row in rows]


async def list_of_deployment(db: aiosqlite.Connection, deployment_name: str) -> list[DeployedModel]:
    return [_read(row) for row in await db.execute_fetchall(LIST_OF_DEPLOYMENT, (deployment_name,))]


async def update(tx: Transaction, deployed: DeployedModel) -> None:
    """The whole row."""
    await tx.connection.execute(UPDATE, (*_values(deployed), deployed.account_id, deployed.id))


async def delete(tx: Transaction, account_id: str, deployed_model_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, deployed_model_id))


async def delete_of_deployment(tx: Transaction, deployment_name: str) -> None:
    await tx.connection.execute(DELETE_OF_DEPLOYMENT, (deployment_name,))


async def delete_orphans(tx: Transaction) -> None:
    """Forget what went with deployments that are purged."""
    await tx.connection.execute(DELETE_ORPHANS, (DeployedModelState.DELETED,))


def _values(deployed: DeployedModel) -> tuple[object, ...]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return (
        deployed.display_name,
        deployed.description,
        deployed.model,
        deployed.deployment,
        deployed.is_default,
        deployed.is_public,
        deployed.state,
        deployed.status_message,
        deployed.has_failed,
        deployed.created_at,
        deployed.updated_at,
    )


def _read(row: aiosqlite.Row) -> DeployedModel:
    return msgspec.convert(dict(row), DeployedModel, strict=False)
