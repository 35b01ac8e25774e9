"""A real `hearth serve` in a process of its own, for tests that talk to it, kill it and start it again."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import psutil

START_TIMEOUT_S = 60.0


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Poll until true; returns the seconds it took, raises AssertionError with `what` otherwise."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - start


class DaemonProcess:
    """One data directory and the daemon on it; `start` may be called again after `kill` or `stop`."""

    program: Sequence[str] = (sys.executable, "-m", "appliance", "serve")

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self.data_dir = data_dir
        self.base_url = ""
        self._settings = {f"HEARTH_{name.upper()}": str(value) for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.log_file = data_dir.parent / f"{data_dir.name}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def api_key(self) -> str:
        return (self.data_dir / "admin-api-key").read_text().strip()

    def start(self) -> "DaemonProcess":
        self.spawn()
        wait_until(self.is_announced, START_TIMEOUT_S, f"the ready line; log:\n{self.log()[-3000:]}")
        return self

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        self._out = self.data_dir.parent / f"{self.data_dir.name}.out"
        with self._out.open("wb") as out, self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, "--data-dir", str(self.data_dir), "--port", "0"],
                stdout=out,
                stderr=log,
                env={**os.environ, **self._settings},
            )
        return self._process

    def is_announced(self) -> bool:
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            raise AssertionError(f"the daemon ended with {status}:\n{self.log()[-3000:]}")
        found = re.search(r"http://\S+", self._out.read_text())
        if found:
            self.base_url = found.group()
        return found is not None

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def client(self, **options: object) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=60.0)

    def workers(self) -> list[psutil.Process]:
        """Live worker processes of this daemon that are somebody's."""
        # One that began as a spare has given itself a title: one word with spaces in it.
        return self._children_with("--replica")

    def spares(self) -> list[psutil.Process]:
        """Live worker processes of this daemon that wait for a model."""
        return self._children_with("--kind spare")

    def _children_with(self, words: str) -> list[psutil.Process]:
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if words in _command_line(child)]

    def stop(self, timeout_s: float = 40.0) -> int:
        """SIGTERM; returns the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20.0)
            except subprocess.TimeoutExpired:
                self.kill()


def _command_line(process: psutil.Process) -> str:
    """Empty for one that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    return ""


@contextlib.contextmanager
def running_daemon(data_dir: Path, **settings: object) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(data_dir, **settings)
    try:
        yield daemon.start()
    finally:
        daemon.close()
