"""Merging streams; the way of a request is tested through the API."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from appliance.services.inference import interleave
from runtime.protocol import Delta
from tests.waiting import until


def delta(text: str) -> Delta:
    return Delta(request_id="id", text=text)


class Streams:
    """Streams whose steps a test releases one by one, and which remember that they were closed."""

    def __init__(self, num_streams: int) -> None:
        self.inboxes: list[asyncio.Queue[str | Exception | None]] = [asyncio.Queue() for _ in range(num_streams)]
        self.num_closed = 0

    def open(self) -> list[AsyncGenerator[list[Delta], None]]:
        return [self._stream(inbox) for inbox in self.inboxes]

    async def _stream(self, inbox: "asyncio.Queue[str | Exception | None]") -> AsyncGenerator[list[Delta], None]:
        try:
            while (item := await inbox.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield [delta(item)]
        finally:
            self.num_closed += 1


async def test_interleaving_yields_what_comes_first_and_everything() -> None:
    streams = Streams(3)
    merged = interleave(streams.open())
    streams.inboxes[2].put_nowait("c1")
    assert (await anext(merged))[0].text == "c1"
    for item in ("a1", "a2", None):
        streams.inboxes[0].put_nowait(item)
    for inbox in streams.inboxes[1:]:
        inbox.put_nowait(None)
    assert [deltas[0].text async for deltas in merged] == ["a1", "a2"]
    assert streams.num_closed == 3


async def test_first_failure_ends_all_streams() -> None:
    streams = Streams(3)
    merged = interleave(streams.open())
    streams.inboxes[1].put_nowait(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await anext(merged)
    assert streams.num_closed == 3


async def test_closing_the_merged_stream_closes_all() -> None:
    streams = Streams(3)
    async with aclosing(interleave(streams.open())) as merged:
        for inbox in streams.inboxes:
            inbox.put_nowait("x")
        await anext(merged)
    assert streams.num_closed == 3


async def test_cancelling_who_waits_closes_all() -> None:
    streams = Streams(2)

    async def consume() -> None:
        async with aclosing(interleave(streams.open())) as merged:
            async for _ in merged:
                pass

    consumer = asyncio.create_task(consume())
    streams.inboxes[0].put_nowait("x")
    await until(streams.inboxes[0].empty)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert streams.num_closed == 2
