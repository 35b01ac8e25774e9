"""The quotas table. A metric that has no row was never limited."""

import aiosqlite
import msgspec

from appliance.domain import Quota, QuotaMetric
from appliance.store.database import Transaction

_COLUMNS = "account_id, subject, metric, value, max_value, updated_at"
PUT = f"""
INSERT INTO quotas ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (account_id, subject, metric) DO UPDATE SET
    value = excluded.value, max_value = excluded.max_value, updated_at = excluded.updated_at
"""
GET = f"SELECT {_COLUMNS} FROM quotas WHERE account_id = ? AND subject = ? AND metric = ?"
LIST_ALL = f"SELECT {_COLUMNS} FROM quotas"


async def put(tx: Transaction, quota: Quota) -> None:
    await tx.connection.execute(PUT, msgspec.structs.astuple(quota))


async def get(db: aiosqlite.Connection, account_id: str, subject: str, metric: QuotaMetric) -> Quota | None:
    for row in await db.execute_fetchall(GET, (account_id, subject, metric)):
        return _read(row)
    return None


async def list_all(db: aiosqlite.Connection) -> list[Quota]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(LIST_ALL)]


def _read(row: aiosqlite.Row) -> Quota:
    return msgspec.convert(dict(row), Quota)
