"""The operations table: imports of models, under way and past."""

import aiosqlite
import msgspec

from appliance.domain import Operation, OperationState
from appliance.store.database import Transaction

_COLUMNS = """
account_id, id, model, source, state, error_code, error_message, num_bytes, total_bytes, created_by, created_at,
updated_at
"""
INSERT = f"INSERT INTO operations ({_COLUMNS}) VALUES ({', '.join('?' * 12)})"
GET = f"SELECT {_COLUMNS} FROM operations WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM operations WHERE account_id = ? ORDER BY created_at DESC, id"
LIST_IN_STATE = f"SELECT {_COLUMNS} FROM operations WHERE state = ? ORDER BY account_id, id"
UPDATE = """
UPDATE operations SET
    state = ?, error_code = ?, error_message = ?, num_bytes = ?, total_bytes = ?, updated_at = ?
WHERE account_id = ? AND id = ?
"""
FORGET_OLD = """
DELETE FROM operations WHERE account_id = ?1 AND state != 'RUNNING' AND id NOT IN (
    SELECT id FROM operations WHERE account_id = ?1 ORDER BY created_at DESC LIMIT ?2
)
"""


async def insert(tx: Transaction, operation: Operation) -> None:
    await tx.connection.execute(INSERT, msgspec.structs.astuple(operation))


async def get(db: aiosqlite.Connection, account_id: str, operation_id: str) -> Operation | None:
    for row in await db.execute_fetchall(GET, (account_id, operation_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[Operation]:
    """The newest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def list_in_state(db: aiosqlite.Connection, state: OperationState) -> list[Operation]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_STATE, (state,))]


async def update(tx: Transaction, operation: Operation) -> None:
    """How far it is, and how it ended."""
    await tx.connection.execute(
        UPDATE,
        (
            operation.state,
            operation.error_code,
            operation.error_message,
            operation.num_bytes,
            operation.total_bytes,
            operation.updated_at,
            operation.account_id,
            operation.id,
        ),
    )


async def forget_old(tx: Transaction, account_id: str, num_kept: int) -> None:
    """All but the newest that have ended."""
    await tx.connection.execute(FORGET_OLD, (account_id, num_kept))


def _read(row: aiosqlite.Row) -> Operation:
    return msgspec.convert(dict(row), Operation)
