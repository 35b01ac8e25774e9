"""The token_usage table: what requests used, by quarter of an hour and who asked."""

from collections.abc import Mapping
from typing import NamedTuple

import aiosqlite
import msgspec

from appliance.domain import TokenCounts, TokenUser
from appliance.store.database import Transaction

BUCKET_S = 900
"""Every time zone is a whole number of them away from every other."""

_USER = ", ".join(TokenUser.__struct_fields__)
_COUNTS = ", ".join(TokenCounts.__struct_fields__)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in TokenCounts.__struct_fields__)
ADDED_TO_BUCKET = "ON CONFLICT (account_id, bucket_at, user_id, key_id, deployment, model) DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in TokenCounts.__struct_fields__
)
"""How an INSERT ends that may meet the same user in the same quarter of an hour."""
_VALUES = ", ".join("?" * (1 + len(TokenUser.__struct_fields__) + len(TokenCounts.__struct_fields__)))
ADD = f"INSERT INTO token_usage (bucket_at, {_USER}, {_COUNTS}) VALUES ({_VALUES}) {ADDED_TO_BUCKET}"
SUM = f"""
SELECT {_USER}, {_SUMS} FROM token_usage WHERE account_id = ? AND bucket_at >= ? AND bucket_at < ? GROUP BY {_USER}
"""
SUM_OF_ALL = f"SELECT {_USER}, {_SUMS} FROM token_usage WHERE bucket_at >= ? GROUP BY {_USER}"
DELETE_BEFORE = "DELETE FROM token_usage WHERE bucket_at < ?"


class TokenSum(NamedTuple):
    user: TokenUser
    counts: TokenCounts


def bucket_at(now: float) -> int:
    return int(now // BUCKET_S) * BUCKET_S


async def add(tx: Transaction, used: Mapping[TokenUser, TokenCounts]) -> None:
    """Now."""
    rows = [
        (bucket_at(tx.now), *msgspec.structs.astuple(user), *msgspec.structs.astuple(counts))
        for user, counts in used.items()
    ]
    await tx.connection.executemany(ADD, rows)


async def sum_between(db: aiosqlite.Connection, account_id: str, start: float, end: float) -> list[TokenSum]:
    """Of an account, in the quarters of an hour that begin from `start` to before `end`."""
    return [_read(row) for row in await db.execute_fetchall(SUM, (account_id, start, end))]


async def sum_since(db: aiosqlite.Connection, start: float) -> list[TokenSum]:
    """Of every account."""
    return [_read(row) for row in await db.execute_fetchall(SUM_OF_ALL, (start,))]


async def delete_before(tx: Transaction, at: float) -> None:
    await tx.connection.execute(DELETE_BEFORE, (at,))


def _read(row: aiosqlite.Row) -> TokenSum:
    values = dict(row)
    return TokenSum(msgspec.convert(values, TokenUser), msgspec.convert(values, TokenCounts))
