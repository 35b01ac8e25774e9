"""Clients that leave in every way a socket can, in every phase of a request; the workers are scripted."""

import asyncio
import json
import socket
import struct
from enum import StrEnum

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess
from tests.fakes.fake_worker import Script


class Phase(StrEnum):
    BODY = "body"  # while its request is half sent
    QUEUE = "queue"  # before the answer begins
    STREAM = "stream"  # in the middle of the answer


class Way(StrEnum):
    FIN = "fin"
    RST = "rst"
    HALF_CLOSE = "half-close"  # it sends no more, and reads to the end of whatever comes


def request_bytes(daemon: DaemonProcess, script: Script) -> bytes:
    body = json.dumps({"model": EMBER, "stream": True, "messages": [{"role": "user", "content": script.text()}]})
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {daemon.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def leave(daemon: DaemonProcess, phase: Phase, way: Way) -> None:
    host, port = daemon.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = request_bytes(daemon, Script(num_tokens=100_000, prefill_ms=1e6 if phase is Phase.QUEUE else 0.0))
    writer.write(request[: len(request) // 2] if phase is Phase.BODY else request)
    await writer.drain()
    if phase is Phase.STREAM:
        await reader.readuntil(b"data: ")
    if way is Way.HALF_CLOSE:
        writer.write_eof()
        while await reader.read(65536):
            pass
    if way is Way.RST:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass  # the daemon was first
