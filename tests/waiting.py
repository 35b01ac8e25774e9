"""Waiting for a condition instead of for a time."""

import asyncio
from collections.abc import Callable

DEADLINE_S = 60.0
"""Generous: it is reached only when something is broken."""


async def until(is_so: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    async with asyncio.timeout(deadline_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in other processes, too
            await asyncio.sleep(0.005)
