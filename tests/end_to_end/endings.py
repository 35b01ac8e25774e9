"""How requests end: completion or one clean error, and nothing else. A reader of streams that trusts nobody."""

import asyncio
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import aiohttp

from tests.end_to_end.daemon_process import DaemonProcess

HANG_S = 120.0
"""A request that has not ended by then hangs."""


class How(StrEnum):
    COMPLETE = "complete"
    ERROR_EVENT = "error event"
    REFUSED = "refused"  # with a status and a JSON error
    UNCLEAN = "unclean"
    HUNG = "hung"


class Ending(NamedTuple):
    how: How
    code: str = ""
    """Of the error; what was wrong with an unclean one."""
    num_events: int = 0

    @property
    def is_clean(self) -> bool:
        return self.how in (How.COMPLETE, How.ERROR_EVENT, How.REFUSED)


def caller(daemon: DaemonProcess) -> aiohttp.ClientSession:
    """For any number of requests at once."""
    return aiohttp.ClientSession(
        daemon.base_url,
        headers={"Authorization": f"Bearer {daemon.api_key}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
    )


async def read_stream(
    session: aiohttp.ClientSession, body: dict[str, Any], on_event: Callable[[int], None] = lambda number: None
) -> Ending:
    try:
        async with asyncio.timeout(HANG_S):
            async with session.post("/v1/chat/completions", json={**body, "stream": True}) as response:
                if response.status != 200:
                    return _refusal(await response.read())
                return await _read_events(response, on_event)
    except TimeoutError:
        return Ending(How.HUNG)
    except aiohttp.ClientError as error:
        return Ending(How.UNCLEAN, f"the connection broke: {type(error).__name__}")


async def _read_events(response: aiohttp.ClientResponse, on_event: Callable[[int], None]) -> Ending:
    """Exactly one terminal event, and nothing after it."""
    ending: Ending | None = None
    num_events = 0
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if ending is not None:
            return Ending(How.UNCLEAN, "something came after the end", num_events)
        num_events += 1
        on_event(num_events)
        if line == b"data: [DONE]\n":
            ending = Ending(How.COMPLETE, num_events=num_events)
        elif b'"error":' in line:
            ending = Ending(How.ERROR_EVENT, json.loads(line.removeprefix(b"data: "))["error"]["code"], num_events)
    return ending or Ending(How.UNCLEAN, "the stream broke off", num_events)


def _refusal(body: bytes) -> Ending:
    try:
        return Ending(How.REFUSED, json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return Ending(How.UNCLEAN, f"no JSON error: {body[:200]!r}")
