"""A service manager's end: the socket that daemons tell of themselves, and what they told."""

import asyncio
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.config import ServiceEnvironment


class NotifySocket:
    def __init__(self, socket: socket.socket, address: str) -> None:
        self.address = address
        self._socket = socket

    def read(self) -> list[dict[str, str]]:
        """All that has come so far."""
        told = []
        try:
            while True:
                lines = self._socket.recv(4096).decode().splitlines()
                told.append(dict(line.split("=", 1) for line in lines))
        except BlockingIOError:
            return told

    async def read_one(self) -> dict[str, str]:
        """The next, however long it takes."""
        async with asyncio.timeout(60.0):
            message = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        return dict(line.split("=", 1) for line in message.decode().splitlines())

    def environment(self, watchdog_s: float | None = None) -> ServiceEnvironment:
        return ServiceEnvironment(notify_socket=self.address, watchdog_s=watchdog_s)


@contextmanager
def notify_socket(directory: Path | None) -> Iterator[NotifySocket]:
    """In a directory, or under a name that is in none."""
    address = f"@hearth-{secrets.token_hex(8)}" if directory is None else str(directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bound:
        bound.bind(address.replace("@", "\0", 1) if directory is None else address)
        yield NotifySocket(bound, address)
