"""The users table."""

import aiosqlite
import msgspec

from appliance.domain import Role, User
from appliance.store.database import Transaction

_COLUMNS = "account_id, id, display_name, email, role, is_service_account, created_at, updated_at"
INSERT = f"INSERT INTO users ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
GET = f"SELECT {_COLUMNS} FROM users WHERE account_id = ? AND id = ?"
FIND_BY_EMAIL = f"SELECT {_COLUMNS} FROM users WHERE account_id = ? AND email = ? COLLATE NOCASE AND email != ''"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM users WHERE account_id = ? ORDER BY created_at, id"
LIST_WITH_ROLE = f"SELECT {_COLUMNS} FROM users WHERE account_id = ? AND role = ? ORDER BY created_at, id"
UPDATE = """
UPDATE users SET display_name = ?, email = ?, role = ?, updated_at = ? WHERE account_id = ? AND id = ?
"""
DELETE = "DELETE FROM users WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, user: User) -> None:
    await tx.connection.execute(
        INSERT,
        (
            user.account_id,
            user.id,
            user.display_name,
            user.email,
            user.role,
            user.is_service_account,
            user.created_at,
            user.updated_at,
        ),
    )


async def get(db: aiosqlite.Connection, account_id: str, user_id: str) -> User | None:
    for row in await db.execute_fetchall(GET, (account_id, user_id)):
        return _read(row)
    return None


async def find_by_email(db: aiosqlite.Connection, account_id: str, email: str) -> User | None:
    """However its letters are cased; nobody is found by no address."""
    for row in await db.execute_fetchall(FIND_BY_EMAIL, (account_id, email)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[User]:
    """Oldest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def list_with_role(db: aiosqlite.Connection, account_id: str, role: Role) -> list[User]:
    """Oldest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_WITH_ROLE, (account_id, role))]


async def update(tx: Transaction, user: User) -> None:
    """All that can change."""
    await tx.connection.execute(
        UPDATE, (user.display_name, user.email, user.role, user.updated_at, user.account_id, user.id)
    )


async def delete(tx: Transaction, account_id: str, user_id: str) -> None:
    """Whose keys are gone already."""
    await tx.connection.execute(DELETE, (account_id, user_id))


def _read(row: aiosqlite.Row) -> User:
    return msgspec.convert(dict(row), User, strict=False)
