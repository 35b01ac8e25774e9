"""The accelerator_usage table: device seconds by quarter of an hour and the deployment whose replicas held them."""

from collections.abc import Mapping
from typing import NamedTuple

import aiosqlite
import msgspec

from appliance.domain import AcceleratorUser
from appliance.store.database import Transaction
from appliance.store.token_usage import bucket_at

_USER = ", ".join(AcceleratorUser.__struct_fields__)
ADD = f"""
INSERT INTO accelerator_usage (bucket_at, {_USER}, seconds) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (account_id, bucket_at, deployment, base_model, accelerator_type) DO UPDATE SET
    seconds = seconds + excluded.seconds
"""
SUM = f"""
SELECT {_USER}, sum(seconds) AS seconds FROM accelerator_usage
WHERE account_id = ? AND bucket_at >= ? AND bucket_at < ? GROUP BY {_USER}
"""
SUM_OF_ALL = f"SELECT {_USER}, sum(seconds) AS seconds FROM accelerator_usage WHERE bucket_at >= ? GROUP BY {_USER}"
DELETE_BEFORE = "DELETE FROM accelerator_usage WHERE bucket_at < ?"


class AcceleratorSum(NamedTuple):
    user: AcceleratorUser
    seconds: float


async def add(tx: Transaction, used: Mapping[AcceleratorUser, float]) -> None:
    """Now."""
    rows = [(bucket_at(tx.now), *msgspec.structs.astuple(user), seconds) for user, seconds in used.items()]
    await tx.connection.executemany(ADD, rows)


async def sum_between(db: aiosqlite.Connection, account_id: str, start: float, end: float) -> list[AcceleratorSum]:
    """Of an account, in the quarters of an hour that begin from `start` to before `end`."""
    return [_read(row) for row in await db.execute_fetchall(SUM, (account_id, start, end))]


async def sum_since(db: aiosqlite.Connection, start: float) -> list[AcceleratorSum]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(SUM_OF_ALL, (start,))]


async def delete_before(tx: Transaction, at: float) -> None:
    await tx.connection.execute(DELETE_BEFORE, (at,))


def _read(row: aiosqlite.Row) -> AcceleratorSum:
    return AcceleratorSum(msgspec.convert(dict(row), AcceleratorUser), row["seconds"])
