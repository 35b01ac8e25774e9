"""The main thread's loop: take commands, step the engine, hand its outputs over. Owns the engine from load to exit.

Commands come from the socket thread by a queue, which is also where the loop waits while there is nothing to do. Never
touches the socket.
"""

import logging
from queue import SimpleQueue
from typing import Any, NamedTuple, NewType, Protocol, assert_never

from runtime.engine import Engine, EngineStats, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import Asleep, Awake, FromWorker, Load, ProtocolError

logger = logging.getLogger(__name__)


class Add(NamedTuple):
    request: Any


class Cancel(NamedTuple):
    request_id: str
    choice: int | None
    """None: all of them."""


class Feed(NamedTuple):
    request_id: str
    item: Any


class Become(NamedTuple):
    load: Load


class FallAsleep(NamedTuple):
    pass


class WakeUp(NamedTuple):
    pass


class Stop(NamedTuple):
    pass


Command = Add | Feed | Cancel | Become | FallAsleep | WakeUp | Stop
StepOutputs = NewType("StepOutputs", list[Any])


class Progress(NamedTuple):
    """What the main thread last said of itself; replaced whole, so the socket thread reads it without a lock."""

    num_steps: int = 0
    is_busy: bool = False
    stats: EngineStats = EngineStats(0, 0, 0, 0)


class Outlet(Protocol):
    """What takes the loop's results; the socket thread's side of `worker.py` in earnest."""

    progress: Progress

    def send(self, message: FromWorker) -> None: ...

    def deliver(self, outputs: StepOutputs) -> None: ...

    def deliver_refusal(self, request_id: str, refusal: RequestRefused) -> None: ...


class EngineLoop:
    def __init__(self, engine: Engine[Any, Any], inbox: "SimpleQueue[Command]", outlet: Outlet) -> None:
        self._engine = engine
        self._inbox = inbox
        self._outlet = outlet
        self._num_steps = 0
        self._is_asleep = False

    def run(self) -> None:
        """Until Stop. Raises ProtocolError when the daemon asks for what cannot be, and what the engine raises."""
        engine = self._engine
        while True:
            while not (engine.has_work() and self._inbox.empty()):
                if not engine.has_work():
                    self._tell(is_busy=False)
                    self._use_pause()
                command = self._inbox.get()
                self._tell(is_busy=True)
                if isinstance(command, Stop):
                    return
                self._carry_out(command)
                del command  # it may hold hours of sound, and the next may be long in coming
            outputs = engine.step()
            self._num_steps += 1
            self._tell(is_busy=True)
            if outputs:
                self._outlet.deliver(StepOutputs(outputs))

    def _use_pause(self) -> None:
        while self._inbox.empty() and not self._is_asleep and self._engine.rest():
            pass

    def _tell(self, *, is_busy: bool) -> None:
        self._outlet.progress = Progress(self._num_steps, is_busy, self._engine.stats())

    def _carry_out(self, command: Add | Feed | Cancel | Become | FallAsleep | WakeUp) -> None:
        match command:
            case Add(request):
                self._add(request)
            case Feed(request_id, item):
                self._engine.feed(request_id, item)
            case Cancel(request_id, choice):
                self._engine.abort(request_id, choice)
            case FallAsleep():
                if self._is_asleep or self._engine.has_work():
                    raise ProtocolError("Sleep for an engine that sleeps already or has requests")
                self._is_asleep = True
                self._outlet.send(Asleep(host_bytes=self._engine.sleep()))
            case WakeUp():
                if not self._is_asleep:
                    raise ProtocolError("Wake for an engine that is awake")
                load_ms = self._engine.wake()
                logger.info("awake: %s", stages_text(load_ms))
                self._outlet.send(Awake(load_ms=load_ms))
                self._is_asleep = False
            case Become():
                raise AssertionError("a worker loads once")
            case _:
                assert_never(command)

    def _add(self, request: Any) -> None:
        try:
            if self._is_asleep:
                raise RequestRefused(FailureCode.OVERLOADED, "the model is asleep")
            self._engine.add(request)
        except RequestRefused as refusal:
            self._outlet.deliver_refusal(request.request_id, refusal)


def stages_text(load_ms: dict[str, float]) -> str:
    """For the log: what took how long."""
    return ", ".join(f"{stage} {milliseconds:.0f} ms" for stage, milliseconds in load_ms.items())
