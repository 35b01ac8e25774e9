"""Deadlines and caps against raw sockets; the figures are small so that the tests are short."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from appliance.api.server import DeadlineServer, HttpServer
from appliance.config import ServerSettings
from tests.appliance.api.sockets import hang_up
from tests.waiting import until

PATIENCE_S = 20.0
LONG_S = 60.0
"""A deadline that a test must not meet."""
REQUEST = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Endless:
    """A handler that streams until it is stopped, and remembers how it ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.began.set()
        try:
            while True:
                await response.write(b"x" * 65536)
                await asyncio.sleep(0)
        finally:
            self.ended.set()


class Silent:
    """A handler that answers nothing until it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError("unreachable")


async def say_hello(request: web.Request) -> web.StreamResponse:
    return web.Response(text="hello")


def settings(**changes: float) -> ServerSettings:
    patient = ServerSettings(port=0, header_timeout_s=LONG_S, keepalive_timeout_s=LONG_S, write_stall_timeout_s=LONG_S)
    return msgspec.structs.replace(patient, **changes)


@asynccontextmanager
async def serving(
    server_settings: ServerSettings, **handlers: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[tuple[HttpServer, Connect]]:
    app = web.Application()
    for name, handler in {"hello": say_hello, **handlers}.items():
        app.router.add_get(f"/{name}", handler)
    server = HttpServer(app, server_settings)
    port = int((await server.start()).rpartition(":")[2])
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        opened.append(writer)
        return reader, writer

    try:
        yield server, connect
    finally:
        for writer in opened:
            await hang_up(writer)
        await server.close(drain_s=0.0)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await reader.read(-1)


async def read_hello(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readuntil(b"\r\n\r\nhello")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET /hello HT", b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX-A: "])
async def test_incomplete_head_is_refused_at_its_deadline(sent: bytes) -> None:
    async with serving(settings(header_timeout_s=0.2)) as (_, connect):
        reader, writer = await connect()
        writer.write(sent)
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 408")


async def test_head_sent_drop_by_drop_has_one_deadline_for_all_of_it() -> None:
    async with serving(settings(header_timeout_s=0.5)) as (_, connect):
        reader, writer = await connect()
        answer = asyncio.create_task(read_to_end(reader))
        began = time.monotonic()
        while not answer.done():
            writer.write(b"G" if time.monotonic() - began < 0.05 else b"E")
            await asyncio.wait({answer}, timeout=0.05)
            assert time.monotonic() - began < PATIENCE_S
        assert b"408" in answer.result() or b"400" in answer.result()


async def test_second_head_on_a_connection_has_its_deadline_too() -> None:
    async with serving(settings(header_timeout_s=0.3)) as (_, connect):
        reader, writer = await connect()
        writer.write(REQUEST)
        await read_hello(reader)
        writer.write(b"GET /hel")
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 408")


async def test_slow_handler_is_not_bound_by_the_deadline_of_heads() -> None:
    async def linger(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.6)
        return web.Response(text="hello")

    async with serving(settings(header_timeout_s=0.1), linger=linger) as (_, connect):
        reader, writer = await connect()
        writer.write(REQUEST.replace(b"/hello", b"/linger"))
        await read_hello(reader)


async def test_idle_connection_is_closed() -> None:
    async with serving(settings(keepalive_timeout_s=0.2)) as (_, connect):
        reader, writer = await connect()
        writer.write(REQUEST)
        await read_hello(reader)
        assert await read_to_end(reader) == b""


async def test_normal_client_keeps_its_connection_among_half_open_ones() -> None:
    async with serving(settings(header_timeout_s=0.4)) as (_, connect):
        half_open = [await connect() for _ in range(50)]
        for _, writer in half_open:
            writer.write(b"GET / HTTP/1.1\r\n")
        reader, writer = await connect()
        for _ in range(10):
            writer.write(REQUEST)
            await read_hello(reader)
        for waiting, _ in half_open:
            await read_to_end(waiting)
        writer.write(REQUEST)
        await read_hello(reader)


@pytest.mark.parametrize("cap", ["max_connections", "max_connections_per_address"])
async def test_connections_beyond_the_cap_get_an_answer_and_free_places_are_reused(cap: str) -> None:
    async with serving(settings(**{cap: 2})) as (_, connect):
        (first, first_writer), (second, second_writer) = await connect(), await connect()
        for reader, writer in ((first, first_writer), (second, second_writer)):
            writer.write(REQUEST)
            await read_hello(reader)
        refused, _ = await connect()
        answer = await read_to_end(refused)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in answer
        await hang_up(first_writer)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                reader, writer = await connect()
                writer.write(REQUEST)
                if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                    break
                await asyncio.sleep(0.01)


async def test_client_that_takes_nothing_loses_its_stream() -> None:
    endless = Endless()
    async with serving(settings(write_stall_timeout_s=0.3), endless=endless.serve) as (_, connect):
        _, writer = await connect()
        writer.write(REQUEST.replace(b"/hello", b"/endless"))
        async with asyncio.timeout(PATIENCE_S):
            await endless.ended.wait()


async def test_client_that_reads_keeps_its_stream_past_the_stall_deadline() -> None:
    endless = Endless()
    async with serving(settings(write_stall_timeout_s=0.5), endless=endless.serve) as (_, connect):
        reader, writer = await connect()
        writer.write(REQUEST.replace(b"/hello", b"/endless"))
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            assert await asyncio.wait_for(reader.read(65536), PATIENCE_S)
        assert not endless.ended.is_set()


async def test_answer_that_nobody_fetches_does_not_hold_its_connection() -> None:
    async def answer_much(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        response = web.Response(body=b"x" * 50_000)  # fits into the transport's buffer: writing does not pause
        response.force_close()
        return response

    async with serving(settings(write_stall_timeout_s=0.3), much=answer_much) as (server, _):
        deadline_server = server._runner.server
        assert isinstance(deadline_server, DeadlineServer)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(server._runner.addresses[0][:2])
            client.sendall(REQUEST.replace(b"/hello", b"/much"))
            await until(lambda: deadline_server.requests_count and not deadline_server.connections)


@pytest.mark.parametrize("is_reset", [False, True])
async def test_handler_is_cancelled_when_its_client_leaves(is_reset: bool) -> None:
    silent = Silent()
    async with serving(settings(), silent=silent.serve) as (_, connect):
        _, writer = await connect()
        writer.write(REQUEST.replace(b"/hello", b"/silent"))
        async with asyncio.timeout(PATIENCE_S):
            await silent.began.wait()
            if is_reset:
                writer.transport.abort()
            else:
                writer.close()
            await silent.cancelled.wait()


async def test_malformed_http_is_answered_without_repeating_it(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(settings()) as (_, connect):
        reader, writer = await connect()
        writer.write(b"GET /hello HTTP/1.1\r\nAuthorization: Bearer fw_secret" + b"x" * 10_000 + b"\r\n\r\n")
        answer = await read_to_end(reader)
    assert b" 400 Bad Request" in answer
    assert b"fw_secret" not in answer
    assert "fw_secret" not in caplog.text


async def test_drain_stops_listening_and_lets_running_requests_finish() -> None:
    release = asyncio.Event()
    began = asyncio.Event()

    async def wait_for_release(request: web.Request) -> web.StreamResponse:
        began.set()
        await release.wait()
        return web.Response(text="hello")

    async with serving(settings(), waiting=wait_for_release) as (server, connect):
        idle, _ = await connect()
        reader, writer = await connect()
        writer.write(REQUEST.replace(b"/hello", b"/waiting"))
        await asyncio.wait_for(began.wait(), PATIENCE_S)
        closing = asyncio.create_task(server.close(drain_s=PATIENCE_S))
        assert await read_to_end(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            await connect()
        release.set()
        await read_hello(reader)
        await asyncio.wait_for(closing, PATIENCE_S)


async def test_drain_ends_what_does_not_finish() -> None:
    silent = Silent()
    async with serving(settings(), silent=silent.serve) as (server, connect):
        reader, writer = await connect()
        writer.write(REQUEST.replace(b"/hello", b"/silent"))
        await asyncio.wait_for(silent.began.wait(), PATIENCE_S)
        await asyncio.wait_for(server.close(drain_s=0.1), PATIENCE_S)
        assert silent.cancelled.is_set()
        await read_to_end(reader)


async def test_address_in_use_is_an_os_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = HttpServer(web.Application(), settings(port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            await server.start()
        await server.close()
