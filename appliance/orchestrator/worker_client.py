"""The daemon's end of one worker's socket: frames out, frames in, and who waits for which.

A worker that breaks the protocol loses its connection, and every request on it ends at once with WORKER_LOST; whether
the process is then killed and replaced is the replica's business. Never holds more of a request than its unread text.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar, assert_never

from appliance.errors import Code, HearthError
from appliance.orchestrator.health import Vitals
from appliance.orchestrator.inbox import Inbox
from runtime.protocol import (
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    Delta,
    Failed,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Outputs,
    ProtocolError,
    Shutdown,
    Submit,
    ToWorker,
    decode_from_worker,
    encode_frame,
    frame_length,
)

ABORTED_REMEMBERED_MAX = 16384
"""Outputs of an aborted request may still be under way; more aborts than this cannot be before them."""
DISCONNECTED = "the worker closed its connection"

T = TypeVar("T")


class LoadRefused(Exception):
    """The worker cannot become what it was asked to; it ends."""

    def __init__(self, failure: LoadFailed) -> None:
        super().__init__(failure.message)
        self.code = failure.code
        self.message = failure.message


class WorkerLost(Exception):
    """The connection ended before the worker answered; the text says how."""


class WorkerClient:
    """Made for an accepted connection; `lost` is set, with the reason, when it is of no more use."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.lost: asyncio.Future[str] = loop.create_future()
        self.vitals = Vitals.of_newborn(loop.time())
        self._hello: asyncio.Future[None] = loop.create_future()
        self._loaded: asyncio.Future[Loaded | LoadFailed] = loop.create_future()
        self._reader = reader
        self._writer = writer
        self._submitting = asyncio.Lock()
        self._inboxes: dict[str, Inbox] = {}
        self._aborted: dict[str, None] = {}
        """Ids in the order of their aborts; ids of finished requests are not kept."""
        self._reading = asyncio.create_task(self._read())

    @property
    def num_in_flight(self) -> int:
        return len(self._inboxes)

    async def greet(self) -> None:
        """Wait for Hello; raises WorkerLost."""
        await self._answer(self._hello)

    async def load(self, load: Load) -> Loaded:
        """Raises LoadRefused or WorkerLost."""
        self.vitals.progressed_at = asyncio.get_running_loop().time()
        self._write(load)
        answer = await self._answer(self._loaded)
        if isinstance(answer, LoadFailed):
            raise LoadRefused(answer)
        return answer

    async def generate(self, submit: Submit) -> AsyncGenerator[list[Delta], None]:
        """What the worker makes of it, in pieces, until its last choice has finished.

        A consumer that is slow gets larger pieces. Closing the iterator (`contextlib.aclosing`) aborts the request in
        whatever state it is. Raises what the worker answered, or `unavailable` with reason WORKER_LOST.
        """
        frame = _encode_submit(submit)
        inbox = self._open_inbox(submit)
        try:
            await self._send(frame, inbox)
            is_finished = False
            while not is_finished:
                deltas = await inbox.take()
                is_finished = inbox.is_complete
                yield deltas
        finally:
            self._close_inbox(submit.request_id, inbox)

    def shut_down(self) -> None:
        """Ask the worker to exit now."""
        self._write(Shutdown())

    async def close(self, reason: str) -> None:
        """End every request with WORKER_LOST and drop the connection."""
        self._lose(reason)
        self._reading.cancel()
        await asyncio.wait({self._reading})

    # ---- out

    def _write(self, message: ToWorker) -> None:
        if not self.lost.done():
            self._writer.write(encode_frame(message))

    async def _send(self, frame: bytes, inbox: Inbox) -> None:
        """One Submit at a time waits for the socket; an Abort passes them by, for it must never wait."""
        async with self._submitting:
            if self.lost.done():
                return  # the inbox knows why
            self._writer.write(frame)
            inbox.is_submitted = True
            try:
                await self._writer.drain()
            except ConnectionError:
                self._lose(DISCONNECTED)

    def _open_inbox(self, submit: Submit) -> Inbox:
        assert submit.request_id not in self._inboxes, f"request {submit.request_id} is in flight already"
        if self.lost.done():
            raise _worker_lost()
        inbox = self._inboxes[submit.request_id] = Inbox(submit.num_choices)
        return inbox

    def _close_inbox(self, request_id: str, inbox: Inbox) -> None:
        """The consumer leaves. Nothing is owed to the worker when it has answered in full."""
        if self._inboxes.pop(request_id, None) is None or not inbox.is_submitted:
            return
        self._aborted[request_id] = None
        if len(self._aborted) > ABORTED_REMEMBERED_MAX:
            del self._aborted[next(iter(self._aborted))]
        self._write(Abort(request_id=request_id))

    # ---- in

    async def _answer(self, answer: "asyncio.Future[T]") -> T:
        either: set[asyncio.Future[Any]] = {answer, self.lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise WorkerLost(self.lost.result())
        return answer.result()

    async def _read(self) -> None:
        reason = "the connection to the worker broke"
        try:
            while True:
                length = frame_length(await self._reader.readexactly(FRAME_HEADER.size))
                self._handle(decode_from_worker(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            reason = DISCONNECTED
        except ProtocolError as error:
            reason = f"the worker broke the protocol: {error}"
        finally:
            self._lose(reason)

    def _handle(self, message: FromWorker) -> None:
        now = asyncio.get_running_loop().time()
        match message:
            case Outputs(deltas=deltas):
                for delta in deltas:
                    self._deliver(delta)
            case Failed():
                self._fail(message)
            case Heartbeat():
                self.vitals.note_heartbeat(message, now)
            case LoadProgress():
                self.vitals.note_progress(message, now)
            case Hello(protocol=protocol, pid=pid):
                if (protocol, pid) != (PROTOCOL_VERSION, self.pid):
                    raise ProtocolError(f"protocol {protocol} of pid {pid}, not {PROTOCOL_VERSION} of {self.pid}")
                _settle(self._hello, None)
            case Loaded() | LoadFailed():
                self.vitals.note_loaded(now)
                _settle(self._loaded, message)
            case _:
                assert_never(message)

    def _deliver(self, delta: Delta) -> None:
        inbox = self._inbox_of(delta.request_id)
        if inbox is None:
            return
        inbox.put(delta)
        if inbox.is_complete:
            del self._inboxes[delta.request_id]

    def _fail(self, failed: Failed) -> None:
        inbox = self._inbox_of(failed.request_id)
        if inbox is None:
            return
        inbox.fail(HearthError(Code(failed.code.value), failed.message, failed.param, failed.retry_after_s))
        del self._inboxes[failed.request_id]

    def _inbox_of(self, request_id: str) -> Inbox | None:
        """None when its consumer has left. An id that was never submitted, or is finished, breaks the protocol."""
        inbox = self._inboxes.get(request_id)
        if inbox is None and request_id not in self._aborted:
            raise ProtocolError(f"an output for {request_id!r}, which is not in flight")
        return inbox

    def _lose(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._writer.transport.abort()
        for inbox in self._inboxes.values():
            inbox.fail(_worker_lost())
        self._inboxes.clear()
        self._aborted.clear()


def _encode_submit(submit: Submit) -> bytes:
    try:
        return encode_frame(submit)
    except ProtocolError as error:
        raise HearthError(Code.TOO_LARGE, "the request is too large for a worker") from error


def _settle(future: "asyncio.Future[T]", value: T) -> None:
    if future.done():
        raise ProtocolError("an answer that was given before")
    future.set_result(value)


def _worker_lost() -> HearthError:
    return HearthError(Code.UNAVAILABLE, "the worker that served this request ended", reason="WORKER_LOST")
