"""The secrets table: values sealed with a key that is not in the store."""

import aiosqlite
import msgspec

from appliance.domain import Secret
from appliance.store.database import Transaction

_COLUMNS = "account_id, id, key_name, sealed_value, created_at, updated_at"
INSERT = f"INSERT INTO secrets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
GET = f"SELECT {_COLUMNS} FROM secrets WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM secrets WHERE account_id = ? ORDER BY id"
UPDATE = "UPDATE secrets SET key_name = ?, sealed_value = ?, updated_at = ? WHERE account_id = ? AND id = ?"
DELETE = "DELETE FROM secrets WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, secret: Secret) -> None:
    row = (
        secret.account_id,
        secret.id,
        secret.key_name,
        secret.sealed_value,
        secret.created_at,
        secret.updated_at,
    )
    await tx.connection.execute(INSERT, row)


async def get(db: aiosqlite.Connection, account_id: str, secret_id: str) -> Secret | None:
    for row in await db.execute_fetchall(GET, (account_id, secret_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[Secret]:
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def update(tx: Transaction, secret: Secret) -> None:
    """All that can change."""
    await tx.connection.execute(
        UPDATE, (secret.key_name, secret.sealed_value, secret.updated_at, secret.account_id, secret.id)
    )


async def delete(tx: Transaction, account_id: str, secret_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, secret_id))


def _read(row: aiosqlite.Row) -> Secret:
    return msgspec.convert(dict(row), Secret)
