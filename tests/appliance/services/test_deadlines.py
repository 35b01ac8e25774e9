import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from appliance.errors import Code, HearthError
from appliance.services.deadlines import until_deadline

LONG_S = 60.0


class Stream:
    """Yields numbers, and after the last of them waits for ever or ends."""

    def __init__(self, num_items: int, *, ends: bool) -> None:
        self.is_closed = False
        self._num_items = num_items
        self._ends = ends

    async def open(self) -> AsyncGenerator[int, None]:
        try:
            for item in range(self._num_items):
                yield item
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True


async def test_a_stream_in_time_is_left_alone() -> None:
    stream = Stream(3, ends=True)
    assert [item async for item in until_deadline(stream.open(), LONG_S)] == [0, 1, 2]
    assert stream.is_closed


async def test_a_late_stream_gives_what_came_and_is_closed() -> None:
    stream = Stream(2, ends=False)
    outputs = until_deadline(stream.open(), 0.01)
    items = [await anext(outputs), await anext(outputs)]
    with pytest.raises(HearthError) as raised:
        await anext(outputs)
    assert raised.value.code is Code.TIMEOUT
    assert "0.01 s" in raised.value.message
    assert items == [0, 1]
    assert stream.is_closed


async def test_a_reader_that_takes_its_time_is_not_cancelled() -> None:
    items = []
    async with aclosing(until_deadline(Stream(2, ends=True).open(), 0.01)) as outputs:
        async for item in outputs:
            items.append(item)
            await asyncio.sleep(0.03)
    assert items == [0, 1]


async def test_closing_it_closes_the_stream() -> None:
    stream = Stream(2, ends=False)
    async with aclosing(until_deadline(stream.open(), LONG_S)) as outputs:
        assert await anext(outputs) == 0
    assert stream.is_closed


async def test_another_timeout_is_not_taken_for_its_own() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 0
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        async for _ in until_deadline(broken(), LONG_S):
            pass
