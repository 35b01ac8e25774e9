"""The api_keys table: public ids and hashes of secrets, never a secret."""

import aiosqlite
import msgspec

from appliance.domain import ApiKey, Role
from appliance.store.database import Transaction

INSERT = """
INSERT INTO api_keys (account_id, user_id, id, display_name, secret_sha256, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
FIND = """
SELECT account_id, user_id, id, display_name, secret_sha256, created_at, expires_at
FROM api_keys WHERE id = ?
"""
LIST_IN_ACCOUNT = """
SELECT account_id, user_id, id, display_name, secret_sha256, created_at, expires_at
FROM api_keys WHERE account_id = ? ORDER BY created_at, id
"""
EXISTS_WITH_ROLE = """
SELECT 1 FROM api_keys
JOIN users ON users.account_id = api_keys.account_id AND users.id = api_keys.user_id
WHERE api_keys.account_id = ? AND users.role = ? AND (api_keys.expires_at IS NULL OR api_keys.expires_at > ?)
LIMIT 1
"""
DELETE = "DELETE FROM api_keys WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, key: ApiKey) -> None:
    await tx.connection.execute(
        INSERT,
        (
            key.account_id,
            key.user_id,
            key.id,
            key.display_name,
            key.secret_sha256,
            key.created_at,
            key.expires_at,
        ),
    )


async def find(db: aiosqlite.Connection, key_id: str) -> ApiKey | None:
    """In any account: who presents a key has not said which account is his."""
    for row in await db.execute_fetchall(FIND, (key_id,)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[ApiKey]:
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def exists_with_role(db: aiosqlite.Connection, account_id: str, role: Role, now: float) -> bool:
    """Whether anyone can still come in with this role."""
    return bool(await db.execute_fetchall(EXISTS_WITH_ROLE, (account_id, role, now)))


async def delete(tx: Transaction, account_id: str, key_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, key_id))


def _read(row: aiosqlite.Row) -> ApiKey:
    return msgspec.convert(dict(row), ApiKey)
