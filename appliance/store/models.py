"""The models table."""

import aiosqlite
import msgspec

from appliance.domain import Model, ModelKind, Precision, Preparation
from appliance.store.database import Transaction
from appliance.store.decoded_rows import DecodedRows
from models.info import AddonInfo, AnyServedInfo

_COLUMNS = """
account_id, id, display_name, description, kind, state, status_message, is_public, is_serverless, directory, info,
base_model, addon_info, context_length, default_draft_model, default_draft_token_count, github_url, hugging_face_url,
deprecation_date, imported_from, size_bytes, announced_files, preparations, created_by, created_at,
updated_at
"""
INSERT = f"INSERT INTO models ({_COLUMNS}) VALUES ({', '.join('?' * 26)})"
GET = f"SELECT {_COLUMNS} FROM models WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM models WHERE account_id = ? ORDER BY id"
LIST_AFTER = f"SELECT {_COLUMNS} FROM models WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?"
COUNT_IN_ACCOUNT = "SELECT count(*) FROM models WHERE account_id = ?"
LIST_PUBLIC = f"SELECT {_COLUMNS} FROM models WHERE is_public ORDER BY account_id, id"
LIST_OF_KIND = f"SELECT {_COLUMNS} FROM models WHERE kind = ? ORDER BY account_id, id"
LIST_DRAFTED_BY = f"SELECT {_COLUMNS} FROM models WHERE default_draft_model = ? ORDER BY account_id, id"
LIST_WITH_PREPARATIONS = f"SELECT {_COLUMNS} FROM models WHERE preparations != '{{}}' ORDER BY account_id, id"
LIST_DIRECTORIES = "SELECT directory FROM models"
UPDATE = """
UPDATE models SET
    display_name = ?, description = ?, kind = ?, state = ?, status_message = ?, is_public = ?, is_serverless = ?,
    directory = ?, info = ?, base_model = ?, addon_info = ?, context_length = ?, default_draft_model = ?,
    default_draft_token_count = ?, github_url = ?, hugging_face_url = ?, deprecation_date = ?, imported_from = ?,
    size_bytes = ?, announced_files = ?, preparations = ?, created_by = ?, created_at = ?, updated_at = ?
WHERE account_id = ? AND id = ?
"""
COUNT_BYTES = "SELECT coalesce(sum(size_bytes), 0) FROM models WHERE account_id = ?"
DELETE = "DELETE FROM models WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, model: Model) -> None:
    row = (model.account_id, model.id, *_values(model))
    await tx.connection.execute(INSERT, row)
    _decoded.expect(row, model)


async def get(db: aiosqlite.Connection, account_id: str, model_id: str) -> Model | None:
    for row in await db.execute_fetchall(GET, (account_id, model_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[Model]:
    return await _decoded.read(await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,)))


async def list_after(db: aiosqlite.Connection, account_id: str, after_id: str, limit: int) -> list[Model]:
    """A page in the order of ids."""
    return await _decoded.read(await db.execute_fetchall(LIST_AFTER, (account_id, after_id, limit)))


async def count_in_account(db: aiosqlite.Connection, account_id: str) -> int:
    ((number,),) = await db.execute_fetchall(COUNT_IN_ACCOUNT, (account_id,))
    return int(number)


async def list_public(db: aiosqlite.Connection) -> list[Model]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_PUBLIC)]


async def list_of_kind(db: aiosqlite.Connection, kind: ModelKind) -> list[Model]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_OF_KIND, (kind,))]


async def list_drafted_by(db: aiosqlite.Connection, model_name: str) -> list[Model]:
    """Of every account, those that this one guesses for by default."""
    return [_read(row) for row in await db.execute_fetchall(LIST_DRAFTED_BY, (model_name,))]


async def list_with_preparations(db: aiosqlite.Connection) -> list[Model]:
    """Of every account, those that some checkpoint was or is to be made of."""
    return [_read(row) for row in await db.execute_fetchall(LIST_WITH_PREPARATIONS)]


async def list_directories(db: aiosqlite.Connection) -> set[str]:
    """Every folder name that some model of some account owns."""
    return {row["directory"] for row in await db.execute_fetchall(LIST_DIRECTORIES)}


async def count_bytes(db: aiosqlite.Connection, account_id: str) -> int:
    """Of all that the account has."""
    ((num_bytes,),) = await db.execute_fetchall(COUNT_BYTES, (account_id,))
    return int(num_bytes)


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
        model.context_length,
        model.default_draft_model,
        model.default_draft_token_count,
        model.github_url,
        model.hugging_face_url,
        model.deprecation_date,
        model.imported_from,
        model.size_bytes,
        msgspec.json.encode(model.announced_files).decode(),
        msgspec.json.encode(model.preparations).decode(),
        model.created_by,
        model.created_at,
        model.updated_at,
    )


def _json(info: AnyServedInfo | AddonInfo | None) -> str | None:
    return None if info is None else msgspec.json.encode(info).decode()


def _read(row: aiosqlite.Row) -> Model:
    info = None if row["info"] is None else msgspec.json.decode(row["info"], type=AnyServedInfo)
    addon_info = None if row["addon_info"] is None else msgspec.json.decode(row["addon_info"], type=AddonInfo)
    announced_files = msgspec.json.decode(row["announced_files"], type=dict[str, int])
    preparations = msgspec.json.decode(row["preparations"], type=dict[Precision, Preparation])
    parsed = {
        "info": info,
        "addon_info": addon_info,
        "announced_files": announced_files,
        "preparations": preparations,
    }
    return msgspec.convert({**dict(row), **parsed}, Model, strict=False)


_decoded = DecodedRows(_read)
