"""The engine's turns and bookkeeping, over a listener that says what it was given."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from runtime.engine import RequestRefused
from runtime.message import FailureCode
from runtime.protocol import AnyPiece, Failed
from runtime.tasks.speech import Heard, Listening, Segment, Transcribed
from runtime.whisper import engine as engine_module
from runtime.whisper.engine import BATCH_S, WhisperEngine
from runtime.whisper.hearing import LastSpeech
from runtime.whisper.windows import Source, Window, WindowText

SILENCE = np.zeros(160, dtype=np.float32)


class ScriptedListener:
    """What it hears is when the window began; `gate` holds it up."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate: threading.Event | None = None
        self.error: Exception | None = None

    def hear(self, windows: Sequence[Window], last_speech: LastSpeech) -> list[WindowText]:
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.batches.append([window.start_s for window in windows])
        for index, window in enumerate(windows):
            last_speech.set(index, window.start_s)
        return [WindowText([Segment(id=0, seek=0, start=0, end=1, text=f"{one.start_s}")], "en", 1) for one in windows]


class ScriptedWeights:
    def sleep(self) -> int:
        return 7

    def wake(self) -> dict[str, float]:
        return {"weights": 1.0}


class CountingSource:
    """Windows that begin at `first`, `first` + 1 …; refuses at `refuses_at`."""

    def __init__(self, request_id: str, num_windows: int, *, tenant: str = "t", first: float = 0.0) -> None:
        self.request_id = request_id
        self.tenant = tenant
        self.is_finished = False
        self.refuses_at: int | None = None
        self._first = first
        self._num_windows = num_windows
        self._num_given = 0
        self._num_taken = 0

    @property
    def has_window(self) -> bool:
        return self._num_given < self._num_windows

    def start(self) -> list[AnyPiece]:
        self.is_finished = self._num_windows == 0
        return [Transcribed(request_id=self.request_id, is_last=True)] if self.is_finished else []

    def next_window(self) -> Window | None:
        self._num_given += 1
        return Window(SILENCE, self._first + self._num_given - 1, Listening(), [])

    def take(self, text: WindowText) -> list[AnyPiece]:
        self._num_taken += 1
        if self._num_taken == self.refuses_at:
            raise RequestRefused(FailureCode.INVALID, "text: too long", "text")
        self.is_finished = self._num_taken == self._num_windows
        return [Transcribed(request_id=self.request_id, segments=text.segments, is_last=self.is_finished)]

    def feed(self, item: Any) -> list[AnyPiece]:
        self._num_windows += item
        return [Heard(request_id=self.request_id, segments=[])]


def engine_of(listener: ScriptedListener, *, batch_size: int = 4, max_num_waiting: int = 10) -> WhisperEngine:
    return WhisperEngine(listener, ScriptedWeights(), max_batch_size=batch_size, max_num_waiting=max_num_waiting)


def run(engine: WhisperEngine) -> list[AnyPiece | Failed]:
    outputs: list[AnyPiece | Failed] = []
    while engine.has_work():
        outputs += engine.step()
    return outputs


def test_a_source_is_heard_in_the_order_of_its_windows_until_it_has_finished() -> None:
    listener = ScriptedListener()
    engine = engine_of(listener)
    engine.add(CountingSource("a", 6))
    pieces = run(engine)
    assert [piece.segments[0].text for piece in pieces if isinstance(piece, Transcribed)] == [
        f"{n}.0" for n in range(6)
    ]
    assert [len(batch) for batch in listener.batches] == [4, 2]
    assert not engine.has_work()
    assert engine.stats().num_waiting == 0


def test_sources_share_a_batch_and_a_newcomer_is_in_the_next_one() -> None:
    listener = ScriptedListener()
    engine = engine_of(listener)
    engine.add(CountingSource("long", 100))
    engine.step()
    engine.add(CountingSource("short", 1, tenant="other", first=1000.0))
    while not any(output.request_id == "short" for output in engine.step()):
        pass
    assert len(listener.batches) <= 2
    engine.abort("long")
    run(engine)


def test_a_source_with_no_window_is_no_work_until_it_is_fed() -> None:
    engine = engine_of(ScriptedListener())
    source = CountingSource("live", 1)
    engine.add(source)
    source.refuses_at = None
    engine.feed("live", 1)
    assert [type(output) for output in run(engine)] == [Heard, Transcribed, Transcribed]
    engine.feed("gone", 1)
    assert not engine.has_work()


def test_what_needs_no_window_is_answered_at_once() -> None:
    listener = ScriptedListener()
    engine = engine_of(listener)
    engine.add(CountingSource("silent", 0))
    (piece,) = run(engine)
    assert piece.request_id == "silent"
    assert listener.batches == []


def test_an_aborted_request_says_nothing_more_and_holds_up_nobody() -> None:
    listener = ScriptedListener()
    listener.gate = threading.Event()
    engine = engine_of(listener, batch_size=2)
    engine.add(CountingSource("a", 50))
    engine.add(CountingSource("b", 1))
    assert engine.step() == []
    assert engine.stats().num_running == 2
    engine.abort("a")
    engine.abort("a")
    listener.gate.set()
    assert {output.request_id for output in run(engine)} == {"b"}
    assert len(listener.batches) == 1


def test_a_refusal_of_one_source_is_its_own() -> None:
    engine = engine_of(ScriptedListener())
    refused = CountingSource("a", 5)
    refused.refuses_at = 2
    engine.add(refused)
    engine.add(CountingSource("b", 2))
    outputs = run(engine)
    (failure,) = [output for output in outputs if isinstance(output, Failed)]
    assert (failure.request_id, failure.code, failure.param) == ("a", FailureCode.INVALID, "text")
    assert [output.request_id for output in outputs].count("b") == 2


def test_a_step_returns_while_a_batch_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "STEP_S", 0.01)
    listener = ScriptedListener()
    listener.gate = threading.Event()
    engine = engine_of(listener)
    engine.add(CountingSource("a", 1))
    for _ in range(3):
        assert engine.step() == []
        assert engine.has_work()
    listener.gate.set()
    assert len(run(engine)) == 1


def test_a_batch_that_never_ends_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "STEP_S", 0.01)
    listener = ScriptedListener()
    listener.gate = threading.Event()
    now = [0.0]
    engine = WhisperEngine(
        listener, ScriptedWeights(), max_batch_size=4, max_num_waiting=4, clock=lambda: now[0]
    )  # fmt: skip
    engine.add(CountingSource("a", 1))
    engine.step()
    now[0] = 601.0
    with pytest.raises(RuntimeError, match="took longer"):
        engine.step()
    listener.gate.set()


def test_an_error_of_the_model_ends_the_worker() -> None:
    listener = ScriptedListener()
    listener.error = RuntimeError("out of memory")
    engine = engine_of(listener)
    engine.add(CountingSource("a", 1))
    with pytest.raises(RuntimeError, match="out of memory"):
        run(engine)


def test_no_more_requests_wait_than_were_agreed() -> None:
    engine = engine_of(ScriptedListener(), max_num_waiting=4)
    sources: list[Source] = [CountingSource(f"a{index}", 1) for index in range(3)]
    engine.add(sources[0])
    engine.add(sources[1])
    with pytest.raises(RequestRefused) as refusal:
        engine.add(sources[2])
    assert refusal.value.code is FailureCode.RATE_LIMITED
    engine.add(CountingSource("b", 1, tenant="u"))
    engine.add(CountingSource("c", 1, tenant="v"))
    with pytest.raises(RequestRefused) as refusal:
        engine.add(CountingSource("d", 1, tenant="w"))
    assert refusal.value.code is FailureCode.OVERLOADED


def test_batches_shrink_when_they_take_too_long_and_grow_again() -> None:
    now = [0.0]

    class Slow(ScriptedListener):
        def hear(self, windows: Sequence[Window], last_speech: LastSpeech) -> list[WindowText]:
            now[0] += 0.1 if self.batches else 2 * BATCH_S
            return super().hear(windows, last_speech)

    listener = Slow()
    engine = WhisperEngine(
        listener, ScriptedWeights(), max_batch_size=16, max_num_waiting=4, window_s=BATCH_S / 8, clock=lambda: now[0]
    )
    engine.add(CountingSource("a", 8 + 4 + 8 + 16 + 16))
    run(engine)
    assert [len(batch) for batch in listener.batches] == [8, 4, 8, 16, 16]


def test_sleeping_is_the_weights_affair() -> None:
    engine = engine_of(ScriptedListener())
    assert engine.sleep() == 7
    assert engine.wake() == {"weights": 1.0}
