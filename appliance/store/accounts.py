"""The accounts table."""

import aiosqlite
import msgspec

from appliance.domain import Account
from appliance.store.database import Transaction

INSERT = "INSERT INTO accounts (id, display_name, email, created_at, updated_at) VALUES (?, ?, ?, ?, ?)"
GET = "SELECT id, display_name, email, created_at, updated_at FROM accounts WHERE id = ?"


async def insert(tx: Transaction, account: Account) -> None:
    await tx.connection.execute(
        INSERT, (account.id, account.display_name, account.email, account.created_at, account.updated_at)
    )


async def get(db: aiosqlite.Connection, account_id: str) -> Account | None:
    for row in await db.execute_fetchall(GET, (account_id,)):
        return msgspec.convert(dict(row), Account)
    return None
