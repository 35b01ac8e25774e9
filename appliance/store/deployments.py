"""The deployments table."""

import aiosqlite
import msgspec

from appliance.domain import Deployment, DeploymentState
from appliance.store.database import Transaction

_COLUMNS = """
account_id, id, display_name, description, base_model, state, status_message, min_replica_count, max_replica_count,
desired_replica_count, accelerator_type, accelerator_count, precision, max_context_length, draft_model,
draft_token_count, ngram_speculation_length, annotations, created_by, created_at, updated_at, deleted_at, purge_at
"""
INSERT = f"""
INSERT INTO deployments ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
GET = f"SELECT {_COLUMNS} FROM deployments WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"""
SELECT {_COLUMNS} FROM deployments WHERE account_id = ? AND (? OR state != ?) ORDER BY created_at, id
"""
LIST_ACTIVE = f"SELECT {_COLUMNS} FROM deployments WHERE state != ? ORDER BY created_at, account_id, id"
LIST_OF_MODEL = f"""
SELECT {_COLUMNS} FROM deployments WHERE (base_model = ? OR draft_model = ?) AND state != ? ORDER BY created_at, id
"""
UPDATE = """
UPDATE deployments SET
    display_name = ?, description = ?, base_model = ?, state = ?, status_message = ?, min_replica_count = ?,
    max_replica_count = ?, desired_replica_count = ?, accelerator_type = ?, accelerator_count = ?, precision = ?,
    max_context_length = ?, draft_model = ?, draft_token_count = ?, ngram_speculation_length = ?, annotations = ?,
    created_by = ?, created_at = ?, updated_at = ?, deleted_at = ?, purge_at = ?
WHERE account_id = ? AND id = ?
"""
DELETE = "DELETE FROM deployments WHERE account_id = ? AND id = ?"
PURGE = "DELETE FROM deployments WHERE state = ? AND purge_at <= ?"


async def insert(tx: Transaction, deployment: Deployment) -> None:
    await tx.connection.execute(INSERT, (deployment.account_id, deployment.id, *_values(deployment)))


async def get(db: aiosqlite.Connection, account_id: str, deployment_id: str) -> Deployment | None:
    for row in await db.execute_fetchall(GET, (account_id, deployment_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str, include_deleted: bool) -> list[Deployment]:
    """Oldest first."""
    rows = await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id, include_deleted, DeploymentState.DELETED))
    return [_read(row) for row in rows]


async def list_active(db: aiosqlite.Connection) -> list[Deployment]:
    """Of every account, all that are not DELETED, oldest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_ACTIVE, (DeploymentState.DELETED,))]


async def list_of_model(db: aiosqlite.Connection, model_name: str) -> list[Deployment]:
    """Of every account, all that are not DELETED and serve this model, or draft with it."""
    rows = await db.execute_fetchall(LIST_OF_MODEL, (model_name, model_name, DeploymentState.DELETED))
    return [_read(row) for row in rows]


async def update(tx: Transaction, deployment: Deployment) -> None:
    """The whole row."""
    await tx.connection.execute(UPDATE, (*_values(deployment), deployment.account_id, deployment.id))


async def delete(tx: Transaction, account_id: str, deployment_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, deployment_id))


async def purge(tx: Transaction) -> None:
    """Forget what was deleted and can no longer be undeleted."""
    await tx.connection.execute(PURGE, (DeploymentState.DELETED, tx.now))


def _values(deployment: Deployment) -> tuple[object, ...]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return (
        deployment.display_name,
        deployment.description,
        deployment.base_model,
        deployment.state,
        deployment.status_message,
        deployment.min_replica_count,
        deployment.max_replica_count,
        deployment.desired_replica_count,
        deployment.accelerator_type,
        deployment.accelerator_count,
        deployment.precision,
        deployment.max_context_length,
        deployment.draft_model,
        deployment.draft_token_count,
        deployment.ngram_speculation_length,
        msgspec.json.encode(deployment.annotations).decode(),
        deployment.created_by,
        deployment.created_at,
        deployment.updated_at,
        deployment.deleted_at,
        deployment.purge_at,
    )


def _read(row: aiosqlite.Row) -> Deployment:
    return msgspec.convert({**dict(row), "annotations": msgspec.json.decode(row["annotations"])}, Deployment)
