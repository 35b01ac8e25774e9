"""An event loop on which waiting takes no time: with nothing left to do its clock jumps to the next timer.

Hours pass in seconds, in an order that depends on the timers alone. Work that threads do takes real time, during which
the clock stands still: the loop's own executor is watched, and `VirtualDatabase` tells of the database's thread.
"""

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from appliance.store.database import Connection, Database, Transaction

EPOCH = 1_800_000_000.0
DEADLINE_S = 10.0

T = TypeVar("T")


class _Selector(selectors.EpollSelector):
    """Instead of waiting for a time it makes the clock say that it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.num_outside = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.num_outside or timeout is None:  # the latter at the loop's end, while threads finish
            return super().select(DEADLINE_S)
        self.now += max(timeout, 0.0)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def unix_time(self) -> float:
        return EPOCH + self._clock.now

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Around whatever a thread works on."""
        self._clock.num_outside += 1
        try:
            yield
        finally:
            self._clock.num_outside -= 1

    def run_in_executor(  # type: ignore[override]  # its own type takes any arguments, one by one
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        future = super().run_in_executor(executor, func, *args)
        outside = self.outside()
        outside.__enter__()
        future.add_done_callback(lambda _: outside.__exit__(None, None, None))
        return future


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


class VirtualDatabase(Database):
    """A real one, on whose thread the clock waits."""

    @classmethod
    async def open(cls, path: Path, audit_key: bytes = bytes(32), clock: Callable[[], float] | None = None) -> Database:
        with virtual_loop().outside():
            database = await super().open(path, audit_key, clock or virtual_loop().unix_time)
            await database._writer.execute_fetchall("PRAGMA synchronous = OFF")  # no power fails in virtual time
            return database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        with virtual_loop().outside():
            async with super().transaction() as tx:
                yield tx

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Connection]:
        with virtual_loop().outside():
            async with super().reader() as db:
                yield db

    async def close(self) -> None:
        with virtual_loop().outside():
            await super().close()
