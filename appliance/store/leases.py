"""The leases table: memory lent to programs outside Hearth."""

import aiosqlite
import msgspec

from appliance.domain import Lease
from appliance.store.database import Transaction

_COLUMNS = "id, account_id, user_id, device_ids, num_bytes, command, created_at, expires_at"
INSERT = f"INSERT INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
GET = f"SELECT {_COLUMNS} FROM leases WHERE id = ?"
LIST_ALL = f"SELECT {_COLUMNS} FROM leases ORDER BY created_at, id"
EXTEND = "UPDATE leases SET expires_at = ? WHERE id = ?"
DELETE = "DELETE FROM leases WHERE id = ?"


async def insert(tx: Transaction, lease: Lease) -> None:
    await tx.connection.execute(
        INSERT,
        (
            lease.id,
            lease.account_id,
            lease.user_id,
            msgspec.json.encode(lease.device_ids).decode(),
            lease.num_bytes,
            lease.command,
            lease.created_at,
            lease.expires_at,
        ),
    )


async def get(db: aiosqlite.Connection, lease_id: str) -> Lease | None:
    for row in await db.execute_fetchall(GET, (lease_id,)):
        return _read(row)
    return None


async def list_all(db: aiosqlite.Connection) -> list[Lease]:
    """Of every account, oldest first."""
    return [_read(row) for row in await db.execute_fetchall(LIST_ALL)]


async def extend(tx: Transaction, lease_id: str, expires_at: float) -> None:
    await tx.connection.execute(EXTEND, (expires_at, lease_id))


async def delete(tx: Transaction, lease_id: str) -> None:
    await tx.connection.execute(DELETE, (lease_id,))


def _read(row: aiosqlite.Row) -> Lease:
    return msgspec.convert({**dict(row), "device_ids": msgspec.json.decode(row["device_ids"])}, Lease)
