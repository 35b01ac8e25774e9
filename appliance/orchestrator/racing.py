"""Waiting for whichever of several things comes first. What comes too late is cancelled, and its end awaited."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def first_of(*contenders: Coroutine[Any, Any, T]) -> T:
    """The result of whichever ends first, in this order when several have; the others are cancelled."""
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def is_done_within(work: Coroutine[Any, Any, object], seconds: float | None) -> bool:
    """Whether it came to its end in time; it is cancelled otherwise. None: it has all the time."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True
