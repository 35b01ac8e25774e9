"""The models table."""

import aiosqlite
import msgspec

from appliance.domain import Model, ModelKind
from appliance.store.database import Transaction
from models.info import AddonInfo, ModelInfo

_COLUMNS = """
account_id, id, display_name, description, kind, state, status_message, is_public, is_serverless, directory, info,
base_model, addon_info, created_by, created_at, updated_at
"""
INSERT = f"INSERT INTO models ({_COLUMNS}) VALUES ({', '.join('?' * 16)})"
GET = f"SELECT {_COLUMNS} FROM models WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM models WHERE account_id = ? ORDER BY id"
LIST_PUBLIC = f"SELECT {_COLUMNS} FROM models WHERE is_public ORDER BY account_id, id"
LIST_OF_KIND = f"SELECT {_COLUMNS} FROM models WHERE kind = ? ORDER BY account_id, id"
LIST_DIRECTORIES = "SELECT directory FROM models"
UPDATE = """
UPDATE models SET
    display_name = ?, description = ?, kind = ?, state = ?, status_message = ?, is_public = ?, is_serverless = ?,
    directory = ?, info = ?, base_model = ?, addon_info = ?, created_by = ?, created_at = ?, updated_at = ?
WHERE account_id = ? AND id = ?
"""
DELETE = "DELETE FROM models WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, model: Model) -> None:
    await tx.connection.execute(INSERT, (model.account_id, model.id, *_values(model)))


async def get(db: aiosqlite.Connection, account_id: str, model_id: str) -> Model | None:
    for row in await db.execute_fetchall(GET, (account_id, model_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[Model]:
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def list_public(db: aiosqlite.Connection) -> list[Model]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_PUBLIC)]


async def list_of_kind(db: aiosqlite.Connection, kind: ModelKind) -> list[Model]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_OF_KIND, (kind,))]


async def list_directories(db: aiosqlite.Connection) -> set[str]:
    """Every folder name that some model of some account owns."""
    return {row["directory"] for row in await db.execute_fetchall(LIST_DIRECTORIES)}


async def update(tx: Transaction, model: Model) -> None:
    await tx.connection.execute(UPDATE, (*_values(model), model.account_id, model.id))


async def delete(tx: Transaction, account_id: str, model_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, model_id))


def _values(model: Model) -> tuple[object, ...]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return (
        model.display_name,
        model.description,
        model.kind,
        model.state,
        model.status_message,
        model.is_public,
        model.is_serverless,
        model.directory,
        _json(model.info),
        model.base_model,
        _json(model.addon_info),
        model.created_by,
        model.created_at,
        model.updated_at,
    )


def _json(info: ModelInfo | AddonInfo | None) -> str | None:
    return None if info is None else msgspec.json.encode(info).decode()


def _read(row: aiosqlite.Row) -> Model:
    info = None if row["info"] is None else msgspec.json.decode(row["info"], type=ModelInfo)
    addon_info = None if row["addon_info"] is None else msgspec.json.decode(row["addon_info"], type=AddonInfo)
    return msgspec.convert({**dict(row), "info": info, "addon_info": addon_info}, Model, strict=False)
