"""The daemon's end of one worker's socket: frames out, frames in, and who waits for which.

A worker that breaks the protocol loses its connection, and every request on it ends at once with WORKER_LOST; whether
the process is then killed and replaced is the replica's business. Never holds more of a request than its unread text.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar, assert_never

from appliance.errors import Code, HearthError
from appliance.orchestrator.health import Vitals
from appliance.orchestrator.inbox import DeltaInbox, Inbox, ItemT, PieceInbox
from runtime.message import Piece
from runtime.protocol import (
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    AdapterFailed,
    AdapterLoaded,
    AnyFollowUp,
    AnyPiece,
    AnyTask,
    Asleep,
    Awake,
    Delta,
    Failed,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    LoadAdapter,
    Loaded,
    LoadFailed,
    LoadProgress,
    OtherTask,
    Outputs,
    Prepared,
    ProtocolError,
    Shutdown,
    Sleep,
    Submit,
    ToWorker,
    UnloadAdapter,
    Wake,
    decode_from_worker,
    encode_frame,
    frame_length,
)

logger = logging.getLogger(__name__)

ABORTED_REMEMBERED_MAX = 16384
"""Outputs of an aborted request may still be under way; more aborts than this cannot be before them."""
DISCONNECTED = "the worker closed its connection"
WORKER_LOST = "WORKER_LOST"
"""Reason of what a request gets whose worker crashed or was ended because it hung."""
WORKER_STOPPED = "WORKER_STOPPED"
"""Likewise when it was stopped on purpose before it had finished."""

T = TypeVar("T")


class LoadRefused(Exception):
    """The worker cannot become what it was asked to; it ends."""

    def __init__(self, failure: LoadFailed) -> None:
        super().__init__(failure.message)
        self.code = failure.code
        self.message = failure.message


class AdapterRefused(Exception):
    """The worker serves on, without this LoRA addon."""

    def __init__(self, failure: AdapterFailed) -> None:
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
        self.num_lost = 0
        """Requests that were in flight when it was lost."""
        self.vitals = Vitals.of_newborn(loop.time())
        self._hello: asyncio.Future[None] = loop.create_future()
        self.prepared: asyncio.Future[Prepared] = loop.create_future()
        """Of a spare worker: when its libraries are imported. Never set when the worker is lost before."""
        self._loaded: asyncio.Future[Loaded | LoadFailed] = loop.create_future()
        self._asleep: asyncio.Future[Asleep] | None = None
        """Made when an answer to Sleep is owed; likewise for Wake."""
        self._awake: asyncio.Future[Awake] | None = None
        self._adapters: dict[str, asyncio.Future[AdapterLoaded | AdapterFailed]] = {}
        """By adapter: those whose LoadAdapter is not answered yet."""
        self._is_asked_to_end = False
        self._reader = reader
        self._writer = writer
        self._submitting = asyncio.Lock()
        self._inboxes: dict[str, DeltaInbox | PieceInbox] = {}
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
        self.vitals.note_load_begun(asyncio.get_running_loop().time())
        self._write(load)
        answer = await self._answer(self._loaded)
        if isinstance(answer, LoadFailed):
            raise LoadRefused(answer)
        return answer

    async def sleep(self) -> int:
        """Let it give its devices' memory back; returns the bytes of host memory that it keeps. Raises WorkerLost.

        Only while no request is there.
        """
        self.vitals.note_load_begun(asyncio.get_running_loop().time())
        asleep: asyncio.Future[Asleep] = asyncio.get_running_loop().create_future()
        self._asleep = asleep
        self._write(Sleep())
        return (await self._answer(asleep)).host_bytes

    async def wake(self) -> dict[str, float]:
        """Let it take its devices' memory again; returns the duration of each stage. Raises WorkerLost."""
        self.vitals.note_load_begun(asyncio.get_running_loop().time())
        awake: asyncio.Future[Awake] = asyncio.get_running_loop().create_future()
        self._awake = awake
        self._write(Wake())
        return (await self._answer(awake)).load_ms

    async def load_adapter(self, load: LoadAdapter) -> None:
        """Raises AdapterRefused or WorkerLost. One that is loading is not asked for again."""
        assert load.adapter not in self._adapters, f"{load.adapter} is being loaded already"
        answered = self._adapters[load.adapter] = asyncio.get_running_loop().create_future()
        self._write(load)
        answer = await self._answer(answered)
        if isinstance(answer, AdapterFailed):
            raise AdapterRefused(answer)

    def unload_adapter(self, adapter: str) -> None:
        """Requests that name it finish; later ones are refused."""
        self._write(UnloadAdapter(adapter=adapter))

    async def generate(self, submit: Submit) -> AsyncGenerator[list[Delta], None]:
        """What the worker makes of it, in pieces, until its last choice has finished.

        A consumer that is slow gets larger pieces. Closing the iterator (`contextlib.aclosing`) aborts the request in
        whatever state it is. Raises what the worker answered, or `unavailable` with reason WORKER_LOST.
        """
        async with aclosing(self._exchange(submit, DeltaInbox(submit.num_choices))) as outputs:
            async for deltas in outputs:
                yield deltas

    async def carry_out(
        self, task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None = None
    ) -> AsyncGenerator[list[AnyPiece], None]:
        """Likewise for a task of another kind, whose later parts are sent as the worker's socket takes them.

        What their iterator raises is raised here.
        """
        inbox = PieceInbox()
        async with aclosing(self._exchange(task, inbox)) as outputs, AsyncExitStack() as sending:
            if follow_ups is not None:
                pump = asyncio.create_task(self._send_follow_ups(follow_ups, inbox), name="follow-ups of a task")
                sending.push_async_callback(_cancelled, pump)
            async for pieces in outputs:
                yield pieces

    async def _exchange(self, task: AnyTask, inbox: Inbox[ItemT]) -> AsyncGenerator[list[ItemT], None]:
        frame = _encode(task)
        self._open_inbox(task, inbox)
        try:
            await self._send(frame, inbox)
            is_finished = False
            while not is_finished:
                items = await inbox.take()
                is_finished = inbox.is_complete
                yield items
        finally:
            self._close_inbox(task.request_id, inbox)

    def shut_down(self) -> None:
        """Ask the worker to exit now. Requests that it still has end with WORKER_STOPPED: it did not crash."""
        self._is_asked_to_end = True
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

    async def _send(self, frame: bytes, inbox: Inbox[Any]) -> None:
        """One Submit at a time waits for the socket; an Abort passes them by, for it must never wait."""
        async with self._submitting:
            if self.lost.done():
                return  # the inbox knows why
            self._writer.write(frame)
            inbox.submitted.set()
            try:
                await self._writer.drain()
            except ConnectionError:
                self._lose(DISCONNECTED)

    async def _send_follow_ups(self, follow_ups: AsyncIterator[AnyFollowUp], inbox: PieceInbox) -> None:
        try:
            async for follow_up in follow_ups:
                await inbox.submitted.wait()
                self._write(follow_up)
                await self._writer.drain()
        except ConnectionError:
            self._lose(DISCONNECTED)
        except HearthError as error:
            inbox.fail(error)
        except Exception:
            logger.exception("what follows a task failed")
            inbox.fail(HearthError(Code.INTERNAL, "the request could not be sent to its worker"))

    def _open_inbox(self, task: AnyTask, inbox: Inbox[Any]) -> None:
        assert task.request_id not in self._inboxes, f"request {task.request_id} is in flight already"
        if self.lost.done():
            raise self._ended()
        assert isinstance(inbox, DeltaInbox | PieceInbox)
        self._inboxes[task.request_id] = inbox

    def _close_inbox(self, request_id: str, inbox: Inbox[Any]) -> None:
        """The consumer leaves. Nothing is owed to the worker when it has answered in full."""
        if self._inboxes.pop(request_id, None) is None or not inbox.submitted.is_set():
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
            case Piece():
                self._deliver(message)
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
            case Prepared():
                self.vitals.progressed_at = now
                _settle(self.prepared, message)
            case Loaded() | LoadFailed():
                self.vitals.note_loaded(now)
                _settle(self._loaded, message)
            case AdapterLoaded(adapter=adapter) | AdapterFailed(adapter=adapter):
                _settle(self._adapters.pop(adapter, None), message)
            case Asleep():
                self.vitals.note_loaded(now)
                _settle(self._asleep, message)
            case Awake():
                self.vitals.note_loaded(now)
                _settle(self._awake, message)
            case _:
                assert_never(message)

    def _deliver(self, item: Delta | AnyPiece) -> None:
        match self._inbox_of(item.request_id), item:
            case DeltaInbox() as inbox, Delta():
                inbox.put(item)
            case PieceInbox() as others, Piece():
                others.put(item)
            case None, _:
                return
            case _:
                raise ProtocolError(f"a {type(item).__name__} for {item.request_id!r}, which asked for something else")
        if self._inboxes[item.request_id].is_complete:
            del self._inboxes[item.request_id]

    def _fail(self, failed: Failed) -> None:
        inbox = self._inbox_of(failed.request_id)
        if inbox is None:
            return
        inbox.fail(HearthError(Code(failed.code.value), failed.message, failed.param, failed.retry_after_s))
        del self._inboxes[failed.request_id]

    def _inbox_of(self, request_id: str) -> DeltaInbox | PieceInbox | None:
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
        self.num_lost = len(self._inboxes)
        for inbox in self._inboxes.values():
            inbox.fail(self._ended())
        self._inboxes.clear()
        self._aborted.clear()

    def _ended(self) -> HearthError:
        if self._is_asked_to_end:
            return HearthError(
                Code.UNAVAILABLE, "the worker that served this request was stopped", reason=WORKER_STOPPED
            )
        return HearthError(Code.UNAVAILABLE, "the worker that served this request ended", reason=WORKER_LOST)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _encode(task: AnyTask) -> bytes:
    try:
        return encode_frame(task)
    except ProtocolError as error:
        raise HearthError(Code.TOO_LARGE, "the request is too large for a worker") from error


def _settle(future: "asyncio.Future[T] | None", value: T) -> None:
    if future is None or future.done():
        raise ProtocolError("an answer that nobody waits for")
    future.set_result(value)
