"""Raw connections of tests, closed for good: a socket left to the garbage collector is an error."""

import asyncio


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass  # the server was first
