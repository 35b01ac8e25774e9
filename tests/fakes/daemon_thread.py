"""A whole daemon inside the test process, on a loop of its own: real store, API and supervisor, workers without models.

For tests of clients that block. `tests/end_to_end/daemon_process.py` is the one with real workers and real kills.
"""

import asyncio
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from appliance.config import Config, FleetSettings, ImportSettings, ServerSettings
from appliance.daemon import Daemon, running_daemon
from tests.fakes.fake_worker import FakeModel

TIMEOUT_S = 60.0
FLEET: dict[str, Any] = {
    "simulated_gpus": "2xNVIDIA_H100_80GB",
    "worker_command": [sys.executable, "-m", "tests.fakes.fake_worker"],
    "supervisor_interval_s": 0.1,
}

T = TypeVar("T")


class DaemonThread:
    """Reached like any daemon, and from inside as well."""

    def __init__(self, data_dir: Path, daemon: Daemon, loop: asyncio.AbstractEventLoop) -> None:
        self.data_dir = data_dir
        self.base_url = daemon.base_url
        self._services = daemon.services
        self._loop = loop

    @property
    def api_key(self) -> str:
        return (self.data_dir / "admin-api-key").read_text().strip()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something of the daemon's on its loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_S)

    def script_model(self, model_id: str, fake_model: FakeModel) -> None:
        """How workers load and run this model of the daemon's own account from now on."""
        fake_model.write(self.model_directory(model_id))

    def model_directory(self, model_id: str) -> Path:
        principal = self.call(self._services.identity.authenticate(self.api_key))
        model = self.call(self._services.models.get(principal, principal.account_id, model_id))
        return self.data_dir / "models" / model.directory


@contextmanager
def daemon_in_thread(data_dir: Path, imports: ImportSettings | None = None, **fleet: Any) -> Iterator[DaemonThread]:
    """`fleet` overrides its settings."""
    config = Config(
        data_dir=data_dir,
        server=ServerSettings(port=0, drain_s=1.0),
        imports=imports or ImportSettings(),
        fleet=FleetSettings(**{**FLEET, **fleet}),
    )
    started: list[DaemonThread] = []
    is_started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_daemon(config) as daemon:
            started.append(DaemonThread(data_dir, daemon, asyncio.get_running_loop()))
            is_started.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            is_started.set()

    thread = threading.Thread(target=run, name="daemon")
    thread.start()
    try:
        assert is_started.wait(TIMEOUT_S)
        assert started, "the daemon did not start"
        yield started[0]
    finally:
        stop.set()
        thread.join(TIMEOUT_S)
