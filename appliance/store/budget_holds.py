"""The budget_holds table: requests under way that a budget limits. Settled, a hold becomes usage, and only once."""

from collections.abc import Iterable, Mapping

import aiosqlite
import msgspec

from appliance.domain import BudgetHold, TokenCounts, TokenUser
from appliance.store.database import Transaction
from appliance.store.token_usage import ADDED_TO_BUCKET, bucket_at

_USER = ", ".join(TokenUser.__struct_fields__)
_COUNTED = [name for name in TokenCounts.__struct_fields__ if name != "num_requests"]
_TOKENS = ", ".join(_COUNTED)
_BECOMES_USAGE = f"""
INSERT INTO token_usage (bucket_at, {_USER}, num_requests, {_TOKENS}) SELECT ?, {_USER}, 1, {_TOKENS} FROM budget_holds
"""
_VALUES = ", ".join("?" * (1 + len(TokenUser.__struct_fields__) + len(_COUNTED)))
PUT = f"INSERT OR REPLACE INTO budget_holds (id, {_USER}, {_TOKENS}) VALUES ({_VALUES})"
COUNT = f"UPDATE budget_holds SET {', '.join(f'{name} = ?' for name in _COUNTED)} WHERE id = ?"
SETTLE = f"{_BECOMES_USAGE} WHERE id = ? {ADDED_TO_BUCKET}"
SETTLE_ALL = f"{_BECOMES_USAGE} WHERE true {ADDED_TO_BUCKET}"
LIST_ALL = f"SELECT id, {_USER}, {_TOKENS} FROM budget_holds ORDER BY id"
DELETE = "DELETE FROM budget_holds WHERE id = ?"
DELETE_ALL = "DELETE FROM budget_holds"


async def put(tx: Transaction, holds: Iterable[BudgetHold]) -> None:
    rows = [(hold.id, *msgspec.structs.astuple(hold.user), *_tokens(hold.counts)) for hold in holds]
    await tx.connection.executemany(PUT, rows)


async def count(tx: Transaction, counts_by_id: Mapping[str, TokenCounts]) -> None:
    """What they have used so far, at least; of those that are gone nothing changes."""
    await tx.connection.executemany(COUNT, [(*_tokens(counts), id) for id, counts in counts_by_id.items()])


async def list_all(db: aiosqlite.Connection) -> list[BudgetHold]:
    return [_read(row) for row in await db.execute_fetchall(LIST_ALL)]


async def settle(tx: Transaction, ids: Iterable[str]) -> None:
    """What was counted is used, now."""
    rows = [(bucket_at(tx.now), id) for id in ids]
    await tx.connection.executemany(SETTLE, rows)
    await delete(tx, ids)


async def settle_all(tx: Transaction) -> int:
    """How many there were."""
    await tx.connection.execute(SETTLE_ALL, (bucket_at(tx.now),))
    return (await tx.connection.execute(DELETE_ALL)).rowcount


async def delete(tx: Transaction, ids: Iterable[str]) -> None:
    """Nothing was used."""
    await tx.connection.executemany(DELETE, [(id,) for id in ids])


def _read(row: aiosqlite.Row) -> BudgetHold:
    values = dict(row)
    return BudgetHold(
        id=row["id"], user=msgspec.convert(values, TokenUser), counts=msgspec.convert(values, TokenCounts)
    )


def _tokens(counts: TokenCounts) -> list[int]:
    return [getattr(counts, name) for name in _COUNTED]
