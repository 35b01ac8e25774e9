"""The worker's two threads and two queues, seen from the daemon's end of a real socket to a real process."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.message import FailureCode
from runtime.protocol import (
    FRAME_BYTES_MAX,
    FRAME_HEADER,
    PROTOCOL_VERSION,
    Abort,
    AdapterFailed,
    AdapterLoaded,
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
    Shutdown,
    Submit,
    ToWorker,
    UnloadAdapter,
    decode_from_worker,
    encode_frame,
    frame_length,
)
from runtime.settings import LlmSettings
from runtime.submission import TextPrompt
from runtime.tasks.embedding import Score
from runtime.tasks.speech import AudioChunk, Listen, Listening, Traced

DEADLINE_S = 30.0


class DaemonEnd:
    """The connection as the daemon has it, blocking."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        connection.settimeout(DEADLINE_S)

    def send(self, *messages: ToWorker) -> None:
        self.connection.sendall(b"".join(map(encode_frame, messages)))

    def receive(self) -> FromWorker:
        return decode_from_worker(self._read(frame_length(self._read(FRAME_HEADER.size))))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def until(self, is_wanted: Callable[[FromWorker], bool]) -> list[FromWorker]:
        """Everything but heartbeats, up to the wanted message."""
        seen: list[FromWorker] = []
        while not (seen and is_wanted(seen[-1])):
            message = self.receive()
            if not isinstance(message, Heartbeat) or is_wanted(message):
                seen.append(message)
        return seen

    def load(self, model_dir: str = "some") -> FromWorker:
        settings = LlmSettings(device="cpu", dtype="float32", memory_budget_bytes=1, max_context_length=1)
        self.send(Load(model_dir=model_dir, file_sha256={}, settings=settings))
        return self.until(lambda message: isinstance(message, Loaded | LoadFailed))[-1]

    def text(self, request_id: str) -> str:
        """All the text of one request, to its end."""
        seen = self.until(lambda message: is_end(message, request_id))
        deltas = [delta for message in seen if isinstance(message, Outputs) for delta in message.deltas]
        return "".join(delta.text for delta in deltas if delta.request_id == request_id)

    def failure(self) -> Failed:
        message = self.until(lambda message: isinstance(message, Failed))[-1]
        assert isinstance(message, Failed)
        return message


def is_end(message: FromWorker, request_id: str) -> bool:
    return isinstance(message, Outputs) and any(
        delta.request_id == request_id and delta.finish_reason for delta in message.deltas
    )


def is_about_adapter(message: FromWorker) -> bool:
    return isinstance(message, AdapterLoaded | AdapterFailed)


def submit(request_id: str, text: str) -> Submit:
    return Submit(request_id=request_id, prompt=TextPrompt(text=text))


@contextlib.contextmanager
def started_worker(directory: Path) -> Iterator[DaemonEnd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(directory / "socket"))
        listener.listen(1)
        listener.settimeout(DEADLINE_S)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.scripted_worker", str(directory / "socket")], stderr=subprocess.PIPE
        )
        try:
            connection, _ = listener.accept()
            with connection:
                yield DaemonEnd(process, connection)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonEnd]:
    with started_worker(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def loaded(daemon: DaemonEnd) -> DaemonEnd:
    assert isinstance(daemon.load(), Loaded)
    return daemon


def test_it_says_hello_then_reports_the_load(daemon: DaemonEnd) -> None:
    assert daemon.receive() == Hello(protocol=PROTOCOL_VERSION, pid=daemon.process.pid)
    settings = LlmSettings(device="cpu", dtype="float32", memory_budget_bytes=1, max_context_length=1)
    daemon.send(Load(model_dir="some", file_sha256={}, settings=settings))
    seen = daemon.until(lambda message: isinstance(message, Loaded))
    assert LoadProgress(stage="weights", fraction=0.5) in seen


def test_a_refused_load_is_told_and_ends_the_process_in_order(daemon: DaemonEnd) -> None:
    assert daemon.load("refused") == LoadFailed(code=FailureCode.INVALID, message="this model is refused")
    assert daemon.process.wait(DEADLINE_S) == 0


def test_a_load_that_breaks_tells_no_internals(daemon: DaemonEnd) -> None:
    assert daemon.load("broken") == LoadFailed(code=FailureCode.INTERNAL, message="ZeroDivisionError while loading")
    assert daemon.process.wait(DEADLINE_S) == 1


def test_a_submit_before_the_load_is_refused_not_lost(daemon: DaemonEnd) -> None:
    daemon.send(submit("a", "1"))
    assert daemon.failure().code is FailureCode.OVERLOADED


def test_requests_stream_side_by_side(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "5"), submit("b", "3"))
    assert loaded.text("a") == "1 2 3 4 5 "


def test_what_the_frontend_refuses_fails_that_request_only(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "refuse"), submit("b", "2"))
    assert loaded.failure() == Failed(
        request_id="a", code=FailureCode.INVALID, message="that text is refused", param="prompt"
    )
    assert loaded.text("b") == "1 2 "


def test_a_bug_while_preparing_fails_that_request_only(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "break"), submit("b", "2"))
    assert loaded.failure().code is FailureCode.INTERNAL
    assert loaded.text("b") == "1 2 "


def test_a_request_that_must_wait_holds_up_nobody_and_is_taken_up_again(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "later 2"), submit("b", "3"))
    assert loaded.text("b") == "1 2 3 "
    loaded.send(submit("c", "release 1"))
    assert loaded.text("a") == "1 2 "


def test_a_request_whose_client_left_while_it_waited_is_forgotten(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "later 2"), Abort(request_id="a"), submit("b", "later 4"), submit("c", "release 1"))
    heard = loaded.until(lambda message: is_end(message, "b"))
    ids = {delta.request_id for message in heard if isinstance(message, Outputs) for delta in message.deltas}
    assert "a" not in ids


def test_what_follows_a_task_reaches_its_engine_and_pieces_come_back(loaded: DaemonEnd) -> None:
    loaded.send(Listen(request_id="l", listening=Listening()))
    for text in ("one", "", "two"):
        loaded.send(AudioChunk(request_id="l", data=text.encode(), is_last=text == "two"))
    heard = loaded.until(lambda message: isinstance(message, Traced) and message.is_last)
    assert [message.trace_id for message in heard if isinstance(message, Traced)] == ["one", "two"]


@pytest.mark.parametrize(("data", "code"), [(b"refuse", FailureCode.INVALID), (b"break", FailureCode.INTERNAL)])
def test_what_follows_and_is_refused_ends_its_request_only(loaded: DaemonEnd, data: bytes, code: FailureCode) -> None:
    for request_id in "ab":
        loaded.send(Listen(request_id=request_id, listening=Listening()))
    loaded.send(AudioChunk(request_id="a", data=data))
    failure = loaded.failure()
    assert (failure.request_id, failure.code) == ("a", code)
    loaded.send(AudioChunk(request_id="b", data=b"fine", is_last=True))
    assert loaded.until(lambda message: isinstance(message, Traced))


def test_a_task_of_another_kind_is_refused(loaded: DaemonEnd) -> None:
    loaded.send(Score(request_id="s", query="q", documents=["d"]))
    assert (failure := loaded.failure()).code is FailureCode.INVALID
    assert "not of a kind" in failure.message


def test_an_addon_is_loaded_used_and_unloaded(loaded: DaemonEnd) -> None:
    loaded.send(Submit(request_id="early", prompt=TextPrompt(text="1"), adapter="a"))
    assert loaded.failure().code is FailureCode.NOT_FOUND
    loaded.send(LoadAdapter(adapter="a", directory="", file_sha256={}))
    assert loaded.until(is_about_adapter)[-1] == AdapterLoaded(adapter="a")
    loaded.send(Submit(request_id="one", prompt=TextPrompt(text="2"), adapter="a"))
    assert loaded.text("one").split() == ["1", "2"]
    loaded.send(UnloadAdapter(adapter="a"), UnloadAdapter(adapter="unknown"))
    loaded.send(Submit(request_id="late", prompt=TextPrompt(text="1"), adapter="a"))
    assert loaded.failure().request_id == "late"


def test_an_addon_that_cannot_be_loaded_fails_alone(daemon: DaemonEnd) -> None:
    load = LoadAdapter(adapter="bad one", directory="", file_sha256={})
    daemon.send(load)
    failed = AdapterFailed(adapter="bad one", code=FailureCode.OVERLOADED, message="the model is still loading")
    assert daemon.until(is_about_adapter)[-1] == failed
    daemon.load()
    daemon.send(load, submit("one", "1"))
    failed = AdapterFailed(adapter="bad one", code=FailureCode.INVALID, message="a bad addon")
    assert daemon.until(is_about_adapter)[-1] == failed


def test_what_the_engine_has_no_room_for_is_overloaded(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "full"))
    failure = loaded.failure()
    assert (failure.code, failure.retry_after_s) == (FailureCode.OVERLOADED, 3.0)
    loaded.send(submit("b", "2"))
    assert loaded.text("b") == "1 2 "


def test_an_abort_frees_the_engine(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "1000000000"))
    loaded.until(lambda message: isinstance(message, Outputs))
    loaded.send(Abort(request_id="a"), Abort(request_id="unknown"))
    loaded.until(lambda message: isinstance(message, Heartbeat) and not message.is_busy)


def test_what_the_frontend_ends_the_engine_stops_computing(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "1000000000!"))
    assert loaded.text("a").endswith("12 13 ")
    loaded.until(lambda message: isinstance(message, Heartbeat) and not message.is_busy)


def test_heartbeats_tell_that_both_threads_live(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "1000000000"))
    beats: list[Heartbeat] = []
    while len(beats) < 3:
        message = loaded.receive()
        if isinstance(message, Heartbeat) and message.is_busy:
            beats.append(message)
    assert beats[0].num_steps < beats[1].num_steps < beats[2].num_steps
    assert (beats[0].num_running, beats[0].num_blocks) == (1, 9)


def test_outputs_for_a_slow_daemon_are_merged(loaded: DaemonEnd) -> None:
    """While the socket is full nothing is rendered, so a step's frame grows instead of their number."""
    loaded.send(submit("a", "1000000000"))
    largest = 0
    deadline = time.monotonic() + DEADLINE_S
    while largest < 100:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # this daemon is slow: that is the case under test
        message = loaded.receive()
        if isinstance(message, Outputs):
            largest = max(largest, len(message.deltas))


def test_a_slow_daemon_gets_the_end_as_well(loaded: DaemonEnd) -> None:
    """What waited for a full socket goes out when there is room, though the engine has nothing more to say."""
    loaded.send(submit("a", "20*1000000"))
    time.sleep(0.2)  # this daemon is slow: that is the case under test
    assert len(loaded.text("a")) == 20 * 1000000


def test_outputs_too_large_for_one_frame_come_in_several(loaded: DaemonEnd) -> None:
    size = FRAME_BYTES_MAX * 2 // 3
    loaded.send(submit("a", f"3*{size}"))  # while the first is on its way, two more wait to be merged
    assert len(loaded.text("a")) == 3 * size


def test_an_answer_too_large_for_any_frame_fails_alone(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", f"9*{FRAME_BYTES_MAX}"), submit("b", "3"))
    assert loaded.failure() == Failed(
        request_id="a", code=FailureCode.INTERNAL, message="the answer is too large to be sent"
    )
    loaded.send(submit("c", "2"))
    assert loaded.text("c") == "1 2 "


def test_nothing_follows_the_failure_of_a_request_with_several_choices(loaded: DaemonEnd) -> None:
    a = Submit(request_id="a", prompt=TextPrompt(text=f"1*{FRAME_BYTES_MAX}"), num_choices=3)
    loaded.send(a, submit("b", "9"))
    heard = loaded.until(lambda message: is_end(message, "b"))
    assert sum(isinstance(message, Failed) for message in heard) == 1
    assert {delta.request_id for message in heard if isinstance(message, Outputs) for delta in message.deltas} == {"b"}


def test_a_broken_device_ends_the_process(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "explode"))
    assert loaded.process.wait(DEADLINE_S) == 1


def test_garbage_ends_the_process(loaded: DaemonEnd) -> None:
    loaded.connection.sendall(FRAME_HEADER.pack(3) + b"\xc1\xc1\xc1")
    assert loaded.process.wait(DEADLINE_S) == 1


def test_shutdown_says_everything_first_and_closes_the_frontend(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "5"))
    assert loaded.text("a")
    loaded.send(Shutdown())
    assert loaded.process.wait(DEADLINE_S) == 0
    assert loaded.process.stderr is not None
    assert b"frontend closed" in loaded.process.stderr.read()


def test_it_does_not_outlive_the_daemon(loaded: DaemonEnd) -> None:
    loaded.send(submit("a", "1000000000"))
    loaded.connection.close()
    assert loaded.process.wait(DEADLINE_S) == 1
