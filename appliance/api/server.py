"""The listening socket and every deadline that aiohttp does not have: heads, idle and stalled connections, caps, drain.

Knows nothing of routes. The deadline of a body is in `codec.py`, because only the reader knows that it reads.
"""

import asyncio
import logging
import secrets
from collections import Counter
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from appliance.api.errors import Dialect, error_bytes, error_response
from appliance.config import ServerSettings
from appliance.errors import Code, HearthError

logger = logging.getLogger(__name__)

BACKLOG = 1024
FAREWELL_S = 2.0
"""After the drain: for the last error events to be written."""


class Connection(web.RequestHandler):
    """One client connection. Leans on three private attributes of aiohttp's class, which its tests would miss:

    `_waiter` is pending exactly while the connection waits for a request, `_request_count` grows with each complete
    head, and `_task_handler` serves all requests of the connection.
    """

    def __init__(self, server: "DeadlineServer", settings: ServerSettings, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self._settings = settings
        self._socket: asyncio.Transport | None = None
        """Until the connection is lost; aiohttp forgets its `transport` when it begins to close."""
        self._head_deadline: asyncio.TimerHandle | None = None
        self._stall_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        if not self._server.admit(self):
            refusal = HearthError(Code.OVERLOADED, "too many connections", retry_after_s=1.0)
            transport.write(error_bytes(refusal, secrets.token_hex(8)))
            transport.close()
            return
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.release(self)
        for deadline in (self._head_deadline, self._stall_deadline):
            if deadline is not None:
                deadline.cancel()
        self._socket = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if data and self._head_deadline is None and self._waiter is not None and not self._waiter.done():
            self._await_head()
        num_heads = self._request_count
        super().data_received(data)
        if self._request_count > num_heads and self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_deadline is not None:
            self._stall_deadline.cancel()
            self._stall_deadline = None

    async def start(self) -> None:
        """Serve requests until the connection ends; then what is still unsent has its deadline too."""
        try:
            await super().start()
        finally:
            if self._socket is not None and self._stall_deadline is None:
                self._socket.close()
                self._await_reader()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Malformed HTTP, which reaches no middleware, or what was raised for a client that has left.

        Logs nothing of a malformed head: it may hold a key.
        """
        if self.transport is None or request.writer.output_size > 0:
            raise ConnectionError("the client left")
        error_id = secrets.token_hex(8)
        if isinstance(exc, HttpProcessingError):
            error = HearthError(Code.INVALID, "the request is not valid HTTP")
        else:
            logger.error("request %s failed outside of its handler", error_id, exc_info=exc)
            error = HearthError(Code.INTERNAL, f"internal error {error_id}")
        response = error_response(error, Dialect.OPENAI, error_id)
        response.force_close()
        return response

    def cancel_request(self) -> None:
        """End the running request with an error while the client still listens."""
        if self._task_handler is not None:
            self._task_handler.cancel()

    @property
    def address(self) -> str:
        """Empty for a unix socket."""
        peer = None if self._socket is None else self._socket.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    @property
    def is_serving(self) -> bool:
        return self._task_handler is not None and not self._task_handler.done()

    def _await_head(self) -> None:
        self._head_deadline = self._loop.call_later(self._settings.header_timeout_s, self._refuse_late_head)

    def _refuse_late_head(self) -> None:
        if self.transport is not None:
            late = HearthError(Code.TIMEOUT, "the request head did not arrive in time")
            self.transport.write(error_bytes(late, secrets.token_hex(8)))
        self.force_close()

    def _await_reader(self) -> None:
        assert self._socket is not None
        self._stall_deadline = self._loop.call_later(self._settings.write_stall_timeout_s, self._socket.abort)


class DeadlineServer(web.Server):
    """Makes a `Connection` per client and counts them."""

    def __init__(self, settings: ServerSettings, handler: Any, request_factory: Any) -> None:
        super().__init__(handler, request_factory=request_factory, handler_cancellation=True)
        self._settings = settings
        self._admitted: dict[Connection, str] = {}
        self._per_address: Counter[str] = Counter()

    def __call__(self) -> Connection:
        return Connection(
            self,
            self._settings,
            loop=self._loop,
            keepalive_timeout=self._settings.keepalive_timeout_s,
            access_log=None,
            auto_decompress=False,
        )

    def admit(self, connection: Connection) -> bool:
        address = connection.address
        if (
            len(self._admitted) >= self._settings.max_connections
            or self._per_address[address] >= self._settings.max_connections_per_address
        ):
            return False
        self._admitted[connection] = address
        self._per_address[address] += 1
        return True

    def release(self, connection: Connection) -> None:
        address = self._admitted.pop(connection, None)
        if address is None:
            return  # it was refused
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    async def drain(self, drain_s: float) -> None:
        """Let running requests end; those that are left get an error."""
        self.pre_shutdown()
        await self._wait_for_requests(drain_s)
        for connection in list(self._admitted):
            connection.cancel_request()
        await self._wait_for_requests(FAREWELL_S)

    async def _wait_for_requests(self, timeout_s: float) -> None:
        tasks = [connection._task_handler for connection in self._admitted if connection.is_serving]
        running = [task for task in tasks if task is not None]
        if running:
            await asyncio.wait(running, timeout=timeout_s)


class HttpServer:
    """The application on its address: `start`, then `close`, which drains."""

    def __init__(self, app: web.Application, settings: ServerSettings) -> None:
        self._settings = settings
        self._runner = _Runner(app, settings)

    async def start(self) -> str:
        """Listen; returns the base URL. Raises OSError when the address cannot be had."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port, backlog=BACKLOG).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self, drain_s: float | None = None) -> None:
        """Stop listening at once, give running requests `drain_s`, then end what is left."""
        for site in list(self._runner.sites):
            await site.stop()
        if isinstance(self._runner.server, DeadlineServer):
            await self._runner.server.drain(self._settings.drain_s if drain_s is None else drain_s)
        await self._runner.cleanup()


class _Runner(web.AppRunner):
    """aiohttp's runner with our server in place of its own."""

    def __init__(self, app: web.Application, settings: ServerSettings) -> None:
        super().__init__(app, shutdown_timeout=FAREWELL_S)
        self._settings = settings

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return DeadlineServer(self._settings, plain.request_handler, plain.request_factory)
