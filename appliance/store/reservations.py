"""The reservations table."""

import aiosqlite
import msgspec

from appliance.domain import Reservation
from appliance.store.database import Transaction

_COLUMNS = """
account_id, id, display_name, description, accelerator_type, device_ids, starts_at, ends_at, created_by, created_at,
updated_at
"""
INSERT = f"INSERT INTO reservations ({_COLUMNS}) VALUES ({', '.join('?' * 11)})"
GET = f"SELECT {_COLUMNS} FROM reservations WHERE account_id = ? AND id = ?"
LIST_IN_ACCOUNT = f"SELECT {_COLUMNS} FROM reservations WHERE account_id = ? ORDER BY id"
LIST_ALL = f"SELECT {_COLUMNS} FROM reservations ORDER BY account_id, id"
UPDATE = """
UPDATE reservations SET display_name = ?, description = ?, ends_at = ?, updated_at = ? WHERE account_id = ? AND id = ?
"""
DELETE = "DELETE FROM reservations WHERE account_id = ? AND id = ?"


async def insert(tx: Transaction, reservation: Reservation) -> None:
    devices = msgspec.json.encode(reservation.device_ids).decode()
    values = {**msgspec.structs.asdict(reservation), "device_ids": devices}
    await tx.connection.execute(INSERT, tuple(values[name.strip()] for name in _COLUMNS.split(",")))


async def get(db: aiosqlite.Connection, account_id: str, reservation_id: str) -> Reservation | None:
    for row in await db.execute_fetchall(GET, (account_id, reservation_id)):
        return _read(row)
    return None


async def list_in_account(db: aiosqlite.Connection, account_id: str) -> list[Reservation]:
    return [_read(row) for row in await db.execute_fetchall(LIST_IN_ACCOUNT, (account_id,))]


async def list_all(db: aiosqlite.Connection) -> list[Reservation]:
    """Of every account, over or not."""
    return [_read(row) for row in await db.execute_fetchall(LIST_ALL)]


async def update(tx: Transaction, reservation: Reservation) -> None:
    """Its devices and its beginning stay."""
    await tx.connection.execute(
        UPDATE,
        (
            reservation.display_name,
            reservation.description,
            reservation.ends_at,
            reservation.updated_at,
            reservation.account_id,
            reservation.id,
        ),
    )


async def delete(tx: Transaction, account_id: str, reservation_id: str) -> None:
    await tx.connection.execute(DELETE, (account_id, reservation_id))


def _read(row: aiosqlite.Row) -> Reservation:
    return msgspec.convert({**dict(row), "device_ids": msgspec.json.decode(row["device_ids"])}, Reservation)
