"""The users table."""

import aiosqlite
import msgspec

from appliance.domain import User
from appliance.store.database import Transaction

INSERT = """
INSERT INTO users (account_id, id, display_name, email, role, is_service_account, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
GET = """
SELECT account_id, id, display_name, email, role, is_service_account, created_at, updated_at
FROM users WHERE account_id = ? AND id = ?
"""


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
        return msgspec.convert(dict(row), User, strict=False)
    return None
