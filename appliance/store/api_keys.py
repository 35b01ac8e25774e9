"""The api_keys table: public ids and hashes of secrets, never a secret."""

from collections.abc import Mapping

import aiosqlite
import msgspec

from appliance.domain import ApiKey, Role
from appliance.store.database import Transaction

_FOUND = """
SELECT api_keys.account_id, user_id, api_keys.id, api_keys.display_name, secret_sha256, annotations,
    api_keys.created_at, expires_at, last_used_at, users.email
FROM api_keys JOIN users ON users.account_id = api_keys.account_id AND users.id = user_id
"""
INSERT = """
INSERT INTO api_keys (account_id, user_id, id, display_name, secret_sha256, annotations, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
FIND = f"{_FOUND} WHERE api_keys.id = ?"
LIST_IN_ACCOUNT = f"{_FOUND} WHERE api_keys.account_id = ? ORDER BY api_keys.created_at, api_keys.id"
EXISTS_WITH_ROLE = """
SELECT 1 FROM api_keys
JOIN users ON users.account_id = api_keys.account_id AND users.id = api_keys.user_id
WHERE api_keys.account_id = ? AND users.role = ? AND (api_keys.expires_at IS NULL OR api_keys.expires_at > ?)
LIMIT 1
"""
USE = "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE account_id = ? AND id = ?"
DELETE = "DELETE FROM api_keys WHERE account_id = ? AND id = ?"
DELETE_OF_USER = "DELETE FROM api_keys WHERE account_id = ? AND user_id = ?"


async def insert(tx: Transaction, key: ApiKey) -> None:
    await tx.connection.execute(
        INSERT,
        (
            key.account_id,
            key.user_id,
            key.id,
            key.display_name,
            key.secret_sha256,
            msgspec.json.encode(key.annotations).decode(),
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
    """Oldest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def exists_with_role(db: aiosqlite.Connection, account_id: str, role: Role, now: float) -> bool:
    """Whether anyone can still come in with this role."""
    return bool(await db.execute_fetchall(EXISTS_WITH_ROLE, (account_id, role, now)))


async def use(tx: Transaction, times: Mapping[tuple[str, str], float]) -> None:
    """Note when keys, by account and id, were last used; an earlier time, or a key that is gone, changes nothing."""
    await tx.connection.executemany(USE, [(at, *key) for key, at in times.items()])


async def delete(tx: Transaction, account_id: str, key_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, key_id))


async def delete_of_user(tx: Transaction, account_id: str, user_id: str) -> None:
    await tx.connection.execute(DELETE_OF_USER, (account_id, user_id))


def _read(row: aiosqlite.Row) -> ApiKey:
    return msgspec.convert({**dict(row), "annotations": msgspec.json.decode(row["annotations"])}, ApiKey)
