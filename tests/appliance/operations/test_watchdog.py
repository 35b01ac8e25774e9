"""Fed while the state store answers and the supervisor looks, and not a moment longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.operations.service_manager import ServiceManager
from appliance.operations.watchdog import Watchdog
from appliance.store.database import Database
from tests.appliance.operations.notify_socket import NotifySocket, notify_socket
from tests.waiting import until

WATCHDOG_S = 0.04


class Supervisor:
    """Looks when it is told to."""

    is_running = True
    num_looks = 0


class World:
    def __init__(self, listening: NotifySocket, database: Database) -> None:
        self.listening = listening
        self.database = database
        self.supervisor = Supervisor()
        self.now = 0.0
        manager = ServiceManager(listening.environment(WATCHDOG_S))
        self.watchdog = Watchdog(manager, database, self.supervisor, 1.0, clock=lambda: self.now)

    async def is_fed_now(self, caplog: pytest.LogCaptureFixture) -> bool:
        """Once more, or why not."""
        self.listening.read()
        caplog.clear()
        await until(lambda: caplog.records or self.listening.read())
        return not caplog.records


@asynccontextmanager
async def feeding(tmp_path: Path) -> AsyncIterator[World]:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    with notify_socket(tmp_path) as listening:
        world = World(listening, database)
        task = asyncio.create_task(world.watchdog.feed())
        try:
            yield world
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not database.is_failed:
                await database.close()


async def test_it_is_fed_again_and_again(tmp_path: Path) -> None:
    async with feeding(tmp_path) as world:
        for _ in range(3):
            assert await world.listening.read_one() == {"WATCHDOG": "1"}


async def test_a_state_store_that_is_closed_feeds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with feeding(tmp_path) as world:
        assert await world.is_fed_now(caplog)
        await world.database.close()
        world.database.failed.set()
        assert not await world.is_fed_now(caplog)
        assert "the state store cannot be read" in caplog.text


async def test_a_state_store_that_hangs_feeds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with feeding(tmp_path) as world:
        assert await world.is_fed_now(caplog)
        async with world.database.reader(), world.database.reader(), world.database.reader(), world.database.reader():
            assert not await world.is_fed_now(caplog)
            assert "the state store does not answer" in caplog.text
        assert await world.is_fed_now(caplog)


async def test_a_supervisor_that_looks_no_more_feeds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with feeding(tmp_path) as world:
        assert await world.is_fed_now(caplog)
        world.now += 1.0
        assert await world.is_fed_now(caplog), "it looks so often at least"
        world.now += 1.0
        assert not await world.is_fed_now(caplog)
        assert "has not looked for 2 s" in caplog.text
        world.supervisor.num_looks += 1
        assert await world.is_fed_now(caplog)
        world.supervisor.is_running = False
        assert not await world.is_fed_now(caplog)


async def test_where_nobody_watches_it_ends_at_once(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "hearth.db", bytes(32))
    with notify_socket(tmp_path) as listening:
        watchdog = Watchdog(ServiceManager(listening.environment()), database, Supervisor(), 1.0)
        await watchdog.feed()
        assert not listening.read()
    await database.close()
