"""The loop is run on commands that are all there beforehand; it ends at the last one, Stop."""

import weakref
from queue import SimpleQueue
from typing import Any

import pytest

from runtime.engine import RequestRefused
from runtime.engine_loop import Add, Cancel, Command, EngineLoop, FallAsleep, Progress, StepOutputs, Stop, WakeUp
from runtime.message import FailureCode
from runtime.protocol import Asleep, Awake, FromWorker, ProtocolError
from tests.fakes.scripted_worker import CountingEngine, CountRequest


class Outlet:
    def __init__(self) -> None:
        self.progress = Progress()
        self.sent: list[FromWorker] = []
        self.numbers: list[tuple[str, int]] = []
        self.refusals: list[tuple[str, FailureCode]] = []

    def send(self, message: FromWorker) -> None:
        self.sent.append(message)

    def deliver(self, outputs: StepOutputs) -> None:
        self.numbers += [(output.request_id, output.number) for output in outputs]

    def deliver_refusal(self, request_id: str, refusal: RequestRefused) -> None:
        self.refusals.append((request_id, refusal.code))


def run(*commands: Command) -> Outlet:
    inbox: SimpleQueue[Any] = SimpleQueue()
    for command in [*commands, Stop()]:
        inbox.put(command)
    outlet = Outlet()
    EngineLoop(CountingEngine(), inbox, outlet).run()
    return outlet


def count(request_id: str, text: str) -> Add:
    return Add(CountRequest(request_id, text))


def test_it_sleeps_and_wakes_and_says_so() -> None:
    outlet = run(FallAsleep(), WakeUp(), FallAsleep())
    assert outlet.sent == [Asleep(host_bytes=1234), Awake(load_ms={"weights": 1.5}), Asleep(host_bytes=1234)]


def test_a_request_for_an_engine_that_sleeps_is_refused_alone() -> None:
    outlet = run(FallAsleep(), count("a", "2"), WakeUp(), count("b", "full"))
    assert outlet.refusals == [("a", FailureCode.OVERLOADED), ("b", FailureCode.OVERLOADED)]
    assert isinstance(outlet.sent[-1], Awake)


@pytest.mark.parametrize(
    "commands",
    [[count("a", "5"), FallAsleep()], [FallAsleep(), FallAsleep()], [WakeUp()], [FallAsleep(), WakeUp(), WakeUp()]],
)
def test_what_the_daemon_must_never_ask_for_breaks_the_protocol(commands: list[Command]) -> None:
    with pytest.raises(ProtocolError):
        run(*commands)


def test_an_aborted_request_does_not_keep_it_awake() -> None:
    outlet = run(count("a", "5"), Cancel("a", None), FallAsleep())
    assert outlet.sent == [Asleep(host_bytes=1234)]


def test_a_pause_is_used_until_there_is_a_command_or_nothing_left() -> None:
    inbox: SimpleQueue[Any] = SimpleQueue()

    class RestingEngine(CountingEngine):
        num_rests = 0

        def rest(self) -> bool:
            self.num_rests += 1
            if self.num_rests == 3:
                inbox.put(Stop())
            return self.num_rests < 10

    engine = RestingEngine()
    EngineLoop(engine, inbox, Outlet()).run()
    assert engine.num_rests == 3


def test_nobody_keeps_a_request_that_is_over() -> None:
    inbox: SimpleQueue[Any] = SimpleQueue()

    class Request:
        request_id = "a"

    class RestingEngine(CountingEngine):
        kept: object = "unknown"

        def add(self, request: object) -> None:
            """It is over at once."""

        def rest(self) -> bool:
            self.kept = is_there()
            inbox.put(Stop())
            return False

    request = Request()
    is_there = weakref.ref(request)
    inbox.put(Add(request))
    del request
    engine = RestingEngine()
    EngineLoop(engine, inbox, Outlet()).run()
    assert engine.kept is None


def test_progress_tells_of_steps_and_of_rest() -> None:
    outlet = run(FallAsleep(), WakeUp())
    assert outlet.progress.stats.num_blocks == 9
    assert outlet.progress.num_steps == 0
