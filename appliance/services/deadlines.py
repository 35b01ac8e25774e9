"""Streams that must end in time. Only waiting for the stream counts against it, never what its reader does between.

Knows nothing of requests; a stream that is late is closed, which ends the work behind it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from appliance.errors import Code, HearthError

T = TypeVar("T")


async def until_deadline(stream: AsyncGenerator[T, None], seconds: float) -> AsyncGenerator[T, None]:
    """All that comes within so many seconds from now, then `timeout`; closes the stream when it is closed itself."""
    deadline = asyncio.get_running_loop().time() + seconds
    async with aclosing(stream):
        while True:
            # Around the one await, not around the yield: there it would cancel whatever the reader is doing.
            try:
                async with asyncio.timeout_at(deadline) as scope:
                    item = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not scope.expired():
                    raise
                message = f"the request was not finished within {seconds:g} s, the limit of this server"
                raise HearthError(Code.TIMEOUT, message, reason="DEADLINE_EXCEEDED") from None
            yield item
