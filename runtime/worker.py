"""One worker process: the daemon's messages in, one engine's outputs back, until Shutdown or the daemon is gone.

Two threads and two queues. The main thread owns the engine (oneDNN is slower elsewhere) and drains `inbox` at every
step; the socket thread owns the connection and the frontend: frames, templates, tokenising, detokenising, heartbeats.
Never HTTP, SQL or asyncio; never a second engine.

    daemon ── frames ──▶ socket thread ── inbox ──▶ main thread: engine.step()
    daemon ◀─ frames ─── socket thread ◀─ outbox ──┘
"""

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, assert_never

from runtime.engine import (
    Frontend,
    LoadedEngine,
    LoadRefused,
    Postponed,
    ReportProgress,
    RequestRefused,
)
from runtime.engine_loop import (
    Add,
    Become,
    Cancel,
    Command,
    EngineLoop,
    FallAsleep,
    Feed,
    Progress,
    StepOutputs,
    Stop,
    WakeUp,
    stages_text,
)
from runtime.message import FailureCode
from runtime.protocol import (
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    AdapterFailed,
    AdapterLoaded,
    AnyFollowUp,
    AnyPiece,
    AnyTask,
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
    Outputs,
    Prepared,
    ProtocolError,
    Shutdown,
    Sleep,
    Submit,
    ToWorker,
    UnloadAdapter,
    Wake,
    decode_to_worker,
    encode_frame,
    frame_length,
)
from runtime.tasks.embedding import Embed, Score
from runtime.tasks.images import Draw
from runtime.tasks.speech import Align, AudioChunk, ClearState, Listen, Trace, Transcribe

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S = 1.0
RECEIVE_BYTES = 256 * 1024

LoadEngine = Callable[[Load, ReportProgress], LoadedEngine]
Prepare = Callable[[], int]
"""Does ahead of a Load what every load needs; returns the footprint in bytes."""


def run_worker(socket_path: str, load_engine: LoadEngine, prepare: Prepare | None = None) -> int:
    """Connect, prepare if told to, load what the daemon says, serve; returns the process's exit status."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(socket_path)
    inbox: SimpleQueue[Command] = SimpleQueue()
    link = Link(connection, inbox)
    threading.Thread(target=link.run, name="socket", daemon=True).start()
    if prepare is not None:
        link.send(Prepared(footprint_bytes=prepare()))
    status = _serve(inbox, link, load_engine)
    link.finish()
    return status


def _serve(inbox: "SimpleQueue[Command]", link: "Link", load_engine: LoadEngine) -> int:
    """The main thread's life: wait for Load, become an engine, step."""
    command = inbox.get()
    if not isinstance(command, Become):
        return 0
    try:
        loaded = load_engine(command.load, lambda stage, done: link.send(LoadProgress(stage=stage, fraction=done)))
    except LoadRefused as refusal:
        link.send(LoadFailed(code=refusal.code, message=refusal.message))
        return 0
    except Exception as error:
        logger.exception("the load failed")
        link.send(LoadFailed(code=FailureCode.INTERNAL, message=f"{type(error).__name__} while loading"))
        return 1
    logger.info("loaded: %s", stages_text(loaded.loaded.load_ms))
    link.serve(loaded.frontend, loaded.loaded)
    EngineLoop(loaded.engine, inbox, link).run()
    return 0


class Link:
    """The socket thread and what it owns: connection, frontend, frame buffers. Other threads only enqueue."""

    def __init__(self, connection: socket.socket, inbox: "SimpleQueue[Command]") -> None:
        self.progress = Progress()
        """Written by the main thread, read by the socket thread."""
        self._connection = connection
        self._inbox = inbox
        self._outbox: deque[FromWorker | StepOutputs] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._frontend: Frontend[Any, Any, Any] | None = None
        self._postponed: dict[str, AnyTask] = {}
        self._ready: deque[str] = deque()
        """Ids of postponed requests that can go on; appended to by whatever thread made them ready."""
        self._received = bytearray()
        self._unsent = bytearray()
        self._flushed = threading.Event()
        self._is_finishing = False

    # ---- called by the main thread; `send` by those that work for the frontend, too

    def send(self, message: FromWorker) -> None:
        self._outbox.append(message)
        self._wake()

    def deliver(self, outputs: StepOutputs) -> None:
        self._outbox.append(outputs)
        self._wake()

    def deliver_refusal(self, request_id: str, refusal: RequestRefused) -> None:
        self.send(_failed(request_id, refusal))

    def serve(self, frontend: Frontend[Any, Any, Any], loaded: Loaded) -> None:
        """From now on Submit is answered; set before the daemon can know of it."""
        self._frontend = frontend
        self.send(loaded)

    def finish(self) -> None:
        """Wait until everything said has left, then close."""
        self._is_finishing = True
        self._wake()
        self._flushed.wait(timeout=5.0)
        if self._frontend is not None:
            self._frontend.close()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already

    # ---- the socket thread

    def run(self) -> None:
        try:
            self._exchange()
        except Exception:
            # Without this thread the daemon hears nothing more: better a dead worker than a silent one.
            logger.exception("the socket thread failed")
            os._exit(1)

    def _exchange(self) -> None:
        self._connection.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(self._wake_read, selectors.EVENT_READ)
        selector.register(self._connection, selectors.EVENT_READ)
        self._put(Hello(protocol=PROTOCOL_VERSION, pid=os.getpid()))
        next_heartbeat = time.monotonic()
        while True:
            if time.monotonic() >= next_heartbeat:
                self._put(self._heartbeat())
                next_heartbeat = time.monotonic() + HEARTBEAT_INTERVAL_S
            while self._ready:
                self._resume(self._ready.popleft())
            self._write()
            if self._is_finishing and not self._outbox and not self._unsent:
                self._flushed.set()
                return
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            selector.modify(self._connection, wanted)
            for key, events in selector.select(max(0.0, next_heartbeat - time.monotonic())):
                if key.fileobj == self._wake_read:
                    os.read(self._wake_read, 4096)
                elif events & selectors.EVENT_READ:
                    self._read()

    def _heartbeat(self) -> Heartbeat:
        progress = self.progress
        return Heartbeat(num_steps=progress.num_steps, is_busy=progress.is_busy, **progress.stats._asdict())

    def _put(self, message: FromWorker) -> None:
        self._unsent += encode_frame(message)

    def _read(self) -> None:
        try:
            piece = self._connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not piece:
            # The daemon is gone. The main thread may be deep in a step, and nobody waits for its result.
            os._exit(1)
        self._received += piece
        while (message := self._next_message()) is not None:
            self._handle(message)

    def _next_message(self) -> ToWorker | None:
        if len(self._received) < FRAME_HEADER.size:
            return None
        end = FRAME_HEADER.size + frame_length(bytes(self._received[: FRAME_HEADER.size]))
        if len(self._received) < end:
            return None
        payload = bytes(self._received[FRAME_HEADER.size : end])
        del self._received[:end]
        return decode_to_worker(payload)

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Submit() | Embed() | Score() | Transcribe() | Align() | Listen() | Draw():
                self._submit(message)
            case AudioChunk() | Trace() | ClearState():
                self._follow_up(message)
            case Abort(request_id=request_id):
                self._end(request_id)
            case Load():
                self._inbox.put(Become(message))
            case LoadAdapter():
                self._load_adapter(message)
            case UnloadAdapter(adapter=adapter):
                if self._frontend is not None:
                    self._frontend.unload_adapter(adapter)
            case Sleep():
                self._inbox.put(FallAsleep())
            case Wake():
                self._inbox.put(WakeUp())
            case Shutdown():
                self._inbox.put(Stop())
            case _:
                assert_never(message)

    def _submit(self, task: AnyTask) -> None:
        if self._frontend is None:
            self._fail(task.request_id, FailureCode.OVERLOADED, "the model is still loading")
            return
        if not isinstance(task, self._frontend.task_types):
            self._fail(task.request_id, FailureCode.INVALID, "the model is not of a kind that can do this")
            return
        try:
            request = self._frontend.prepare(task)
        except RequestRefused as refusal:
            self._put(_failed(task.request_id, refusal))
        except Postponed as postponed:
            self._postpone(task, postponed)
        except Exception:
            # One request's text must never end the worker; the trace is for the operator.
            logger.exception("preparing request %s failed", task.request_id)
            self._fail(task.request_id, FailureCode.INTERNAL, "the request could not be prepared")
        else:
            self._inbox.put(Add(request))

    def _follow_up(self, message: AnyFollowUp) -> None:
        if self._frontend is None:
            return
        try:
            item = self._frontend.follow_up(message)
        except RequestRefused as refusal:
            self._end(message.request_id)
            self._put(_failed(message.request_id, refusal))
        except Exception:
            logger.exception("going on with request %s failed", message.request_id)
            self._end(message.request_id)
            self._fail(message.request_id, FailureCode.INTERNAL, "the request could not be gone on with")
        else:
            if item is not None:
                self._inbox.put(Feed(message.request_id, item))

    def _load_adapter(self, load: LoadAdapter) -> None:
        def answer(done: Future[None]) -> None:
            refusal = done.exception()
            if refusal is None:
                self.send(AdapterLoaded(adapter=load.adapter))
            else:
                assert isinstance(refusal, LoadRefused)
                self.send(AdapterFailed(adapter=load.adapter, code=refusal.code, message=refusal.message))

        if self._frontend is None:
            message = "the model is still loading"
            self._put(AdapterFailed(adapter=load.adapter, code=FailureCode.OVERLOADED, message=message))
        else:
            self._frontend.load_adapter(load).add_done_callback(answer)

    def _end(self, request_id: str) -> None:
        """Whatever state it is in."""
        self._postponed.pop(request_id, None)
        if self._frontend is not None:
            self._frontend.forget(request_id)
        self._inbox.put(Cancel(request_id, None))

    def _postpone(self, task: AnyTask, postponed: Postponed) -> None:
        def note_ready(_: object) -> None:
            self._ready.append(task.request_id)
            self._wake()

        self._postponed[task.request_id] = task
        postponed.ready.add_done_callback(note_ready)

    def _resume(self, request_id: str) -> None:
        task = self._postponed.pop(request_id, None)
        if task is not None:
            self._submit(task)

    def _fail(self, request_id: str, code: FailureCode, message: str) -> None:
        self._put(Failed(request_id=request_id, code=code, message=message))

    def _write(self) -> None:
        """Send all that the socket takes. While the daemon is slow, outputs wait in the outbox and are merged later."""
        while self._unsent or self._outbox:
            if not self._unsent:
                self._render_outbox()
            try:
                sent = self._connection.send(self._unsent)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                os._exit(1)  # as in _read: the daemon is gone
            del self._unsent[:sent]

    def _render_outbox(self) -> None:
        """What waits by now becomes frames; neighbouring steps become one Outputs."""
        outputs: list[Any] = []
        for _ in range(len(self._outbox)):
            item = self._outbox.popleft()
            if isinstance(item, list):
                outputs += item
            else:
                self._render(outputs)
                outputs = []
                if isinstance(item, Failed) and self._frontend is not None:
                    self._frontend.forget(item.request_id)
                self._put(item)
        self._render(outputs)

    def _render(self, outputs: list[Any]) -> None:
        if not outputs or self._frontend is None:
            return
        rendered = self._frontend.render(outputs)
        self._put_deltas(rendered.deltas)
        for piece in rendered.pieces:
            self._put_piece(piece)
        for failure in rendered.failures:
            self._put(failure)
        for request_id, choice in rendered.finished:
            self._inbox.put(Cancel(request_id, choice))

    def _put_deltas(self, deltas: list[Delta]) -> None:
        """One frame; several if echoed prompts make it too large; an answer too large for any fails alone."""
        given_up: set[str] = set()
        unsent = [deltas]
        while unsent:
            # Nothing may follow the failure of a request, so its other choices go with it.
            part = [delta for delta in unsent.pop() if delta.request_id not in given_up]
            try:
                if part:
                    self._put(Outputs(deltas=part))
            except ProtocolError as error:
                if len(part) == 1:
                    logger.error("an answer cannot be sent: %s", error)
                    given_up.add(part[0].request_id)
                    self._give_up(part[0].request_id, "the answer is too large to be sent")
                else:
                    middle = len(part) // 2
                    unsent += [part[middle:], part[:middle]]

    def _put_piece(self, piece: AnyPiece) -> None:
        try:
            self._put(piece)
        except ProtocolError as error:
            logger.error("an answer cannot be sent: %s", error)
            self._give_up(piece.request_id, "the answer is too large to be sent")

    def _give_up(self, request_id: str, message: str) -> None:
        self._end(request_id)
        self._fail(request_id, FailureCode.INTERNAL, message)


def _failed(request_id: str, refusal: RequestRefused) -> Failed:
    return Failed(
        request_id=request_id,
        code=refusal.code,
        message=refusal.message,
        param=refusal.param,
        retry_after_s=refusal.retry_after_s,
    )
