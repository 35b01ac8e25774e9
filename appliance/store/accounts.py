"""The accounts table."""

import aiosqlite
import msgspec

from appliance.domain import Account
from appliance.store.database import Transaction

_COLUMNS = "id, display_name, email, suspend_state, created_at, updated_at"
INSERT = f"INSERT INTO accounts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
GET = f"SELECT {_COLUMNS} FROM accounts WHERE id = ?"
LIST_ALL = f"SELECT {_COLUMNS} FROM accounts ORDER BY id"
UPDATE = "UPDATE accounts SET display_name = ?, email = ?, suspend_state = ?, updated_at = ? WHERE id = ?"


async def insert(tx: Transaction, account: Account) -> None:
    await tx.connection.execute(
        INSERT,
        (
            account.id,
            account.display_name,
            account.email,
            account.suspend_state,
            account.created_at,
            account.updated_at,
        ),
    )


async def get(db: aiosqlite.Connection, account_id: str) -> Account | None:
    for row in await db.execute_fetchall(GET, (account_id,)):
        return _read(row)
    return None


async def list_all(db: aiosqlite.Connection) -> list[Account]:
    return [_read(row) for row in await db.execute_fetchall(LIST_ALL)]


async def update(tx: Transaction, account: Account) -> None:
    await tx.connection.execute(
        UPDATE, (account.display_name, account.email, account.suspend_state, account.updated_at, account.id)
    )


def _read(row: aiosqlite.Row) -> Account:
    return msgspec.convert(dict(row), Account)
