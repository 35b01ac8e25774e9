"""Rows decoded once: a long list is read again and again, and hardly a row of it changes in between.

Knows no table. What it gives out is shared between callers, so only frozen Structs may be remembered.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import aiosqlite

ROWS_MAX = 20_000
DECODED_AT_ONCE = 256
"""After so many others have their turn."""

T = TypeVar("T")


class DecodedRows(Generic[T]):
    """Of one table, whose first `num_key_columns` tell its rows apart."""

    def __init__(self, decode: Callable[[aiosqlite.Row], T], num_key_columns: int = 2) -> None:
        self._decode = decode
        self._num_key_columns = num_key_columns
        self._remembered: dict[tuple[object, ...], tuple[tuple[object, ...], T]] = {}

    async def read(self, rows: Iterable[aiosqlite.Row]) -> list[T]:
        """Equal rows give the identical object as before."""
        found: list[T] = []
        num_decoded = 0
        for row in rows:
            values = tuple(row)
            key = values[: self._num_key_columns]
            before = self._remembered.get(key)
            if before is None or before[0] != values:
                before = values, self._decode(row)
                self._remember(key, before)
                num_decoded += 1
                if num_decoded % DECODED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            found.append(before[1])
        return found

    def expect(self, values: tuple[object, ...], decoded: T) -> None:
        """What a row that is being written will be; if its transaction fails, the row that is read is another one."""
        self._remember(values[: self._num_key_columns], (values, decoded))

    def _remember(self, key: tuple[object, ...], row: tuple[tuple[object, ...], T]) -> None:
        if key not in self._remembered and len(self._remembered) >= ROWS_MAX:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = row
