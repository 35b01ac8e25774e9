"""The deployment_shape_versions table: a shape is its newest version, and goes with all of them."""

import aiosqlite
import msgspec

from appliance.domain import DeploymentShape
from appliance.store.database import Transaction

_COLUMNS = "snapshot, is_public"
INSERT = """
INSERT INTO deployment_shape_versions (account_id, shape_id, number, snapshot, is_public, created_at)
VALUES (?, ?, ?, ?, ?, ?)
"""
GET_VERSION = f"""
SELECT {_COLUMNS} FROM deployment_shape_versions WHERE account_id = ? AND shape_id = ? AND number = ?
"""
LIST_VERSIONS = f"""
SELECT {_COLUMNS} FROM deployment_shape_versions WHERE account_id = ? AND shape_id = ? ORDER BY number DESC
"""
LIST_IN_ACCOUNT = f"""
SELECT {_COLUMNS} FROM deployment_shape_versions WHERE account_id = ? ORDER BY shape_id, number DESC
"""
SET_PUBLIC = """
UPDATE deployment_shape_versions SET is_public = ? WHERE account_id = ? AND shape_id = ? AND number = ?
"""
DELETE = "DELETE FROM deployment_shape_versions WHERE account_id = ? AND shape_id = ?"


async def insert(tx: Transaction, shape: DeploymentShape) -> None:
    snapshot = msgspec.json.encode(shape).decode()
    values = (shape.account_id, shape.id, shape.number, snapshot, shape.is_public, shape.updated_at)
    await tx.connection.execute(INSERT, values)


async def get_version(db: aiosqlite.Connection, account_id: str, shape_id: str, number: int) -> DeploymentShape | None:
    for row in await db.execute_fetchall(GET_VERSION, (account_id, shape_id, number)):
        return _read(row)
    return None


async def list_versions(db: aiosqlite.Connection, account_id: str, shape_id: str) -> list[DeploymentShape]:
    """The newest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_VERSIONS, (account_id, shape_id))]


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[DeploymentShape]:
    """All versions, by id, the newest of each first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def set_public(tx: Transaction, shape: DeploymentShape, is_public: bool) -> None:
    await tx.connection.execute(SET_PUBLIC, (is_public, shape.account_id, shape.id, shape.number))


async def delete(tx: Transaction, account_id: str, shape_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, shape_id))


def _read(row: aiosqlite.Row) -> DeploymentShape:
    shape = msgspec.json.decode(row["snapshot"], type=DeploymentShape)
    return msgspec.structs.replace(shape, is_public=bool(row["is_public"]))
