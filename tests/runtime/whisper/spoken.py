"""Speech that is easy to hear: a word is a stretch of equal samples, whose value says which word it is.

Hears like a model does: a word that the sound's end cuts becomes another one.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.protocol import AnyPiece
from runtime.tasks.speech import AudioChunk, Cleared, ClearState, Heard, Listen, Listening, Segment, Trace, Traced, Word
from runtime.whisper.live import LiveSource
from runtime.whisper.live_sound import FRAME_SAMPLES
from runtime.whisper.windows import SAMPLE_RATE, WINDOW_S, Samples, Window, WindowText

WORD_S = 0.32
"""A whole number of the voice model's frames."""
GAP_S = 0.064
_UNIT = 1000


class Said(NamedTuple):
    word: str
    start: float
    end: float


def frames(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / FRAME_SAMPLES) * FRAME_SAMPLES


def silence(seconds: float) -> Samples:
    return np.zeros(frames(seconds), np.float32)


def speech(first: int, num_words: int) -> Samples:
    """Words w1, w2 and so on, with small gaps."""
    parts = [
        part
        for number in range(first, first + num_words)
        for part in (np.full(frames(WORD_S), number / _UNIT, np.float32), silence(GAP_S))
    ]
    return np.concatenate(parts)


def text_of(first: int, num_words: int) -> str:
    return "".join(f" w{number}" for number in range(first, first + num_words))


class PlainVoice:
    """Speech is what is not silent; small gaps belong to it."""

    def __init__(self) -> None:
        self._since = 10**6

    def judge(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities = []
        for frame in frames:
            self._since = 0 if np.abs(frame).max() > 0 else self._since + 1
            probabilities.append(1.0 if self._since * FRAME_SAMPLES / SAMPLE_RATE <= 2 * GAP_S else 0.0)
        return np.array(probabilities, np.float32)


def hear(window: Window) -> WindowText:
    words = [
        Word(word=f" {said.word}", start=said.start, end=said.end, probability=0.9)
        for said in _said(window.samples, window.start_s)
    ]
    start_s, end_s = window.start_s, window.start_s + len(window.samples) / SAMPLE_RATE
    segment = Segment(id=0, seek=0, start=start_s, end=end_s, text="".join(word.word for word in words), words=words)
    return WindowText([segment] if words else [], window.language or "en", 0.9)


def _said(samples: Samples, start_s: float) -> Sequence[Said]:
    numbers = np.rint(samples * _UNIT).astype(int)
    edges = np.flatnonzero(np.diff(numbers)) + 1
    bounds = [0, *edges.tolist(), len(numbers)]
    said = []
    for start, end in pairwise(bounds):
        if start == end or not numbers[start]:
            continue
        is_cut = end == len(numbers) and end - start < frames(WORD_S)
        word = "hm" if is_cut else f"w{numbers[start]}"
        said.append(Said(word, start_s + start / SAMPLE_RATE, start_s + end / SAMPLE_RATE))
    return said


class Talk:
    """A conversation with a source whose windows are heard at once, and what a client would have of it."""

    def __init__(
        self, *, has_words: bool = True, language: str | None = "en", prompt: str = "", clip_s: float = WINDOW_S
    ) -> None:
        listening = Listening(language=language, has_words=has_words, prompt=prompt)
        task = Listen(request_id="r", tenant="t", listening=listening)
        self.source = LiveSource(task, PlainVoice(), lambda text: [len(word) for word in text.split()], clip_s)
        self.pieces: list[AnyPiece] = []
        self.windows: list[Window] = []
        self.final: dict[int, list[Word]] = {}
        """Of each segment, the words that were called final."""
        self.shown: dict[int, Segment] = {}

    def send(self, samples: Samples, chunk_s: float = 0.1, *, is_heard: bool = True) -> None:
        step = int(chunk_s * SAMPLE_RATE)
        for start in range(0, len(samples), step):
            data = np.rint(samples[start : start + step] * 32768).astype("<i2").tobytes()
            self.feed(AudioChunk(request_id="r", data=data), is_heard=is_heard)

    def trace(self, trace_id: str = "a") -> None:
        self.feed(Trace(request_id="r", trace_id=trace_id))

    def clear(self) -> None:
        self.feed(ClearState(request_id="r", reset_id="x"))
        self.final, self.shown = {}, {}

    def end(self) -> None:
        self.feed(AudioChunk(request_id="r", data=b"", is_last=True))

    def feed(self, item: AudioChunk | Trace | ClearState, *, is_heard: bool = True) -> None:
        self._note(self.source.feed(item))
        while is_heard and self.hear_once():
            pass

    def hear_once(self) -> bool:
        window = self.source.next_window()
        if window is None:
            return False
        self.windows.append(window)
        self._note(self.source.take(hear(window)))
        return True

    def _note(self, pieces: list[AnyPiece]) -> None:
        self.pieces += pieces
        for piece in pieces:
            for segment in piece.segments if isinstance(piece, Heard) else []:
                self._check_final_words_stay(segment)
                self.shown[segment.id] = segment

    def _check_final_words_stay(self, segment: Segment) -> None:
        if segment.words is None:
            return
        final = [word for word in segment.words if word.is_final]
        before = self.final.get(segment.id, [])
        moved = [word for word in before if word not in final]
        later = [word for each in self.shown.values() if each.id > segment.id for word in each.words or []]
        assert not moved or segment.id + 1 not in self.shown, f"{moved} changed"
        assert final[: len(before)] == before[: len(final)], f"{before} became {final}"
        assert not later or final == segment.words
        self.final[segment.id] = final

    @property
    def text(self) -> str:
        return "".join(self.shown[number].text for number in sorted(self.shown))

    @property
    def traces(self) -> list[str]:
        return [piece.trace_id for piece in self.pieces if isinstance(piece, Traced)]

    @property
    def resets(self) -> list[str]:
        return [piece.reset_id for piece in self.pieces if isinstance(piece, Cleared)]

    @property
    def audio_ms(self) -> int:
        return sum(piece.used.audio_ms for piece in self.pieces)
