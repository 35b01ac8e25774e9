"""SIGHUP's work: what changes at once, what is named, and what a mistake leaves alone."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.config import Config, load_config
from appliance.live_config import LiveConfig
from appliance.operations.reloading import Reloader
from appliance.operations.service_manager import ServiceManager
from tests.appliance.logging_put_back import logging_put_back
from tests.appliance.operations.notify_socket import NotifySocket, notify_socket


class World:
    def __init__(self, file: Path, listening: NotifySocket) -> None:
        self.file = file
        self.listening = listening
        self.hangups = asyncio.Event()
        self.live = LiveConfig(self.load())
        self.reloader = Reloader(self.live, self.load, ServiceManager(listening.environment()), "serving")

    def load(self) -> Config:
        return load_config(self.file, environ={"HEARTH_DATA_DIR": "/d"})

    async def hang_up(self) -> list[dict[str, str]]:
        self.hangups.set()
        return [await self.listening.read_one(), await self.listening.read_one()]


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """A reload sets up logging anew; what the test hears is put back."""
    with logging_put_back():
        yield


@asynccontextmanager
async def following(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "hearth.toml").write_text("[limits]\nn_max = 4\n")
    with notify_socket(tmp_path) as listening:
        world = World(tmp_path / "hearth.toml", listening)
        task = asyncio.create_task(world.reloader.follow(world.hangups))
        try:
            yield world
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_what_can_change_changes_and_the_rest_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with following(tmp_path) as world:
        world.file.write_text("[limits]\nn_max = 8\n\n[server]\nport = 9\n")
        reloading, ready = await world.hang_up()
        assert reloading["RELOADING"] == "1"
        assert ready == {"READY": "1", "STATUS": "serving"}
        assert world.live.current.limits.n_max == 8
        assert world.live.current.server.port == 8080
    logged = capsys.readouterr().err
    assert "these settings changed and need a restart: port" in logged
    assert "reloaded the configuration; changed: n_max" in logged


async def test_a_file_with_a_mistake_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with following(tmp_path) as world:
        before = world.live.current
        world.file.write_text("[limits]\nn_max = 8\nn_min = 1\n")
        assert (await world.hang_up())[1]["READY"] == "1"
        assert world.live.current is before
        assert "the configuration stays as it was" in caplog.text
        assert "n_min" in caplog.text
        world.file.write_text("[limits]\nn_max = 9\n")
        await world.hang_up()
        assert world.live.current.limits.n_max == 9


async def test_the_log_level_changes_at_once(tmp_path: Path) -> None:
    async with following(tmp_path) as world:
        world.file.write_text("[log]\nlog_level = 'error'\n")
        await world.hang_up()
        assert logging.getLogger().level == logging.ERROR
