"""The engine that listens: windows of all requests, heard together in one model.

A batch is drawn from the requests in turn and heard by a thread of its own, because one may take longer than the daemon
waits for a sign of life; meanwhile `step` returns every few tenths of a second. A batch holds no more windows than can
be heard in some seconds, so that newcomers wait little and what nobody wants any more is soon given up.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from typing import NamedTuple, Protocol

from runtime.engine import Engine, EngineStats, Memory, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import AnyPiece, Failed
from runtime.whisper.hearing import LastSpeech
from runtime.whisper.turns import Turns
from runtime.whisper.windows import Source, Window, WindowText

WhisperOutput = AnyPiece | Failed

STEP_S = 0.25
BATCH_S = 10.0
"""What a batch should take at most; a window alone may take longer."""
HUNG_S = 600.0
"""A batch that takes longer will not end."""


class Listener(Protocol):
    """`Hearing` in earnest."""

    def hear(self, windows: list[Window], last_speech: LastSpeech) -> list[WindowText]: ...


class _Batch(NamedTuple):
    sources: list[Source]
    """Of each window."""
    heard: "Future[list[WindowText]]"
    began_at: float


class WhisperEngine(Engine[Source, WhisperOutput]):
    def __init__(
        self,
        listener: Listener,
        weights: Memory,
        *,
        max_batch_size: int,
        max_num_waiting: int,
        window_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`window_s`: how long a window takes alone, as far as it is known."""
        self._listener = listener
        self._weights = weights
        self._max_batch_size = max_batch_size
        self.batch_size = max_batch_size if window_s <= 0 else _clamp(int(BATCH_S / window_s), max_batch_size)
        """Of the next batch at most."""
        self._max_num_waiting = max_num_waiting
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "hearing")
        self._sources: dict[str, Source] = {}
        self._turns = Turns()
        self._last_speech_s: dict[str, float] = {}
        self._batch: _Batch | None = None
        self._said: list[WhisperOutput] = []
        """Not yet handed over."""
        self._batch_s = 0.0

    def add(self, request: Source) -> None:
        if len(self._sources) >= self._max_num_waiting:
            raise RequestRefused(FailureCode.OVERLOADED, "too many requests are waiting for this model")
        if self._turns.num_requests(request.tenant) >= max(1, self._max_num_waiting // 2):
            raise RequestRefused(FailureCode.RATE_LIMITED, "too many requests of yours are waiting for this model")
        self._sources[request.request_id] = request
        self._turns.join(request.tenant, request.request_id)
        self._say(request, request.start)

    def feed(self, request_id: str, item: object) -> None:
        source = self._sources.get(request_id)
        if source is not None:
            self._say(source, partial(source.feed, item))

    def abort(self, request_id: str, index: int | None = None) -> None:
        source = self._sources.pop(request_id, None)
        self._last_speech_s.pop(request_id, None)
        if source is not None:
            self._turns.leave(source.tenant, request_id)
        self._said = [output for output in self._said if output.request_id != request_id]

    def has_work(self) -> bool:
        return bool(self._said) or self._batch is not None or any(map(self._has_window, self._sources))

    def step(self) -> list[WhisperOutput]:
        if self._batch is None and not self._said:
            self._begin_batch()
        if self._batch is not None:
            wait_for([self._batch.heard], timeout=0.0 if self._said else STEP_S)
            if self._batch.heard.done():
                self._end_batch(self._batch)
            elif self._clock() - self._batch.began_at > HUNG_S:
                raise RuntimeError(f"a batch of {len(self._batch.sources)} windows took longer than {HUNG_S:g} s")
        said, self._said = self._said, []
        return said

    def stats(self) -> EngineStats:
        num_running = 0 if self._batch is None else len({source.request_id for source in self._batch.sources})
        return EngineStats(
            num_running=num_running,
            num_waiting=max(0, len(self._sources) - num_running),
            num_free_blocks=0,
            num_blocks=0,
            step_s=self._batch_s,
        )

    def sleep(self) -> int:
        assert self._batch is None, "there are requests"
        return self._weights.sleep()

    def wake(self) -> dict[str, float]:
        return self._weights.wake()

    def _has_window(self, request_id: str) -> bool:
        return self._sources[request_id].has_window

    def _begin_batch(self) -> None:
        sources: list[Source] = []
        windows: list[Window] = []
        while len(windows) < self.batch_size and (request_id := self._turns.pick(self._has_window)) is not None:
            window = self._sources[request_id].next_window()
            if window is None:
                break
            sources.append(self._sources[request_id])
            windows.append(window)
        if not windows:
            return
        last_speech = LastSpeech([source.request_id for source in sources], self._last_speech_s)
        began_at = self._clock()
        heard = self._thread.submit(self._listener.hear, windows, last_speech)
        self._batch = _Batch(sources, heard, began_at)

    def _end_batch(self, batch: _Batch) -> None:
        texts = batch.heard.result()
        self._batch = None
        self._batch_s = self._clock() - batch.began_at
        self._adapt(len(texts))
        for source, text in zip(batch.sources, texts, strict=True):
            if self._sources.get(source.request_id) is source:
                self._say(source, partial(source.take, text))
        for request_id in self._last_speech_s.keys() - self._sources.keys():
            del self._last_speech_s[request_id]  # it was aborted, or ended, while its window was heard

    def _adapt(self, num_windows: int) -> None:
        """Fewer when it took too long, more when it did not and there were more to be had."""
        if self._batch_s > BATCH_S:
            self.batch_size = _clamp(int(num_windows * BATCH_S / self._batch_s), self._max_batch_size)
        elif num_windows == self.batch_size:
            self.batch_size = _clamp(2 * self.batch_size, self._max_batch_size)

    def _say(self, source: Source, answer: Callable[[], list[AnyPiece]]) -> None:
        """What a source answers, or why it cannot."""
        try:
            self._said += answer()
            has_ended = source.is_finished
        except RequestRefused as refusal:
            self._said.append(_failed(source.request_id, refusal))
            has_ended = True
        if has_ended:
            del self._sources[source.request_id]
            self._turns.leave(source.tenant, source.request_id)


def _failed(request_id: str, refusal: RequestRefused) -> Failed:
    return Failed(request_id=request_id, code=refusal.code, message=refusal.message, param=refusal.param)


def _clamp(size: int, largest: int) -> int:
    return max(1, min(size, largest))
