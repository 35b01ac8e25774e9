"""The datasets table."""

import aiosqlite
import msgspec

from appliance.domain import Dataset, DatasetFile
from appliance.store.database import Transaction

_COLUMNS = """
account_id, id, display_name, state, status_message, format, example_count, estimated_token_count, average_turn_count,
directory, files, size_bytes, source_dataset, created_by, created_at, updated_at
"""
INSERT = f"INSERT INTO datasets ({_COLUMNS}) VALUES ({', '.join('?' * 16)})"
GET = f"SELECT {_COLUMNS} FROM datasets WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM datasets WHERE account_id = ? ORDER BY id"
LIST_FOLDERS = "SELECT directory, files FROM datasets"
UPDATE = """
UPDATE datasets SET
    display_name = ?, state = ?, status_message = ?, format = ?, example_count = ?, estimated_token_count = ?,
    average_turn_count = ?, directory = ?, files = ?, size_bytes = ?, source_dataset = ?, created_by = ?,
    created_at = ?, updated_at = ?
WHERE account_id = ? AND id = ?
"""
COUNT_BYTES = "SELECT coalesce(sum(size_bytes), 0) FROM datasets WHERE account_id = ?"
DELETE = "DELETE FROM datasets WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, dataset: Dataset) -> None:
    await tx.connection.execute(INSERT, (dataset.account_id, dataset.id, *_values(dataset)))


async def get(db: aiosqlite.Connection, account_id: str, dataset_id: str) -> Dataset | None:
    for row in await db.execute_fetchall(GET, (account_id, dataset_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[Dataset]:
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def list_folders(db: aiosqlite.Connection) -> dict[str, set[str]]:
    """Every folder name that some dataset of some account owns, and the names of the files that belong in it."""
    rows = await db.execute_fetchall(LIST_FOLDERS)
    return {row["directory"]: {file.filename for file in _read_files(row["files"])} for row in rows}


async def count_bytes(db: aiosqlite.Connection, account_id: str) -> int:
    """Of all that the account has, announced files included."""
    ((num_bytes,),) = await db.execute_fetchall(COUNT_BYTES, (account_id,))
    return int(num_bytes)


async def update(tx: Transaction, dataset: Dataset) -> None:
    """The whole row."""
    await tx.connection.execute(UPDATE, (*_values(dataset), dataset.account_id, dataset.id))


async def delete(tx: Transaction, account_id: str, dataset_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, dataset_id))


def _values(dataset: Dataset) -> tuple[object, ...]:
    """All columns but the key, in the order of INSERT and UPDATE."""
    return (
        dataset.display_name,
        dataset.state,
        dataset.status_message,
        dataset.format,
        dataset.example_count,
        dataset.estimated_token_count,
        dataset.average_turn_count,
        dataset.directory,
        msgspec.json.encode(dataset.files).decode(),
        dataset.size_bytes,
        dataset.source_dataset,
        dataset.created_by,
        dataset.created_at,
        dataset.updated_at,
    )


def _read(row: aiosqlite.Row) -> Dataset:
    return msgspec.convert({**dict(row), "files": _read_files(row["files"])}, Dataset, strict=False)


def _read_files(text: str) -> list[DatasetFile]:
    return msgspec.json.decode(text, type=list[DatasetFile])
