"""The sound of a conversation as it comes: what of it is still needed, and where in it somebody speaks.

Positions are samples since the conversation began. Silero's model goes on from where it stopped, so that a second of
sound costs the same whether it comes at once or in pieces. Decides nothing about what is heard when.
"""

from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray

from runtime.whisper.windows import SAMPLE_RATE, Samples

FRAME_SAMPLES = 512
"""What the voice model judges at once."""
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (1, 1, 128)
VOICE_BEGINS = 0.5
VOICE_ENDS = 0.35
"""Probabilities, as for files."""
PAUSE_S = 0.7
"""So long a silence ends an utterance."""


class VoiceModel(Protocol):
    """Goes on from frame to frame."""

    def judge(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """[frames, FRAME_SAMPLES] to the probability of speech in each."""


class Silero:
    """Of one conversation; the weights are shared."""

    def __init__(self) -> None:
        self._session: Any = get_vad_model().session
        self._hidden = np.zeros(_STATE_SHAPE, np.float32)
        self._cell = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros((1, _CONTEXT_SAMPLES), np.float32)

    def judge(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        context = np.concatenate([self._context, frames[:, -_CONTEXT_SAMPLES:]])
        self._context = context[-1:]
        given = {"input": np.concatenate([context[:-1], frames], 1), "h": self._hidden, "c": self._cell}
        probabilities, self._hidden, self._cell = self._session.run(None, given)
        return np.asarray(probabilities, np.float32).reshape(-1)


class Span(NamedTuple):
    start: int
    end: int


class Utterance(NamedTuple):
    start: int
    end: int
    is_over: bool
    """Whether a pause follows."""


class LiveSound:
    def __init__(self, voice: VoiceModel) -> None:
        self.num_judged = 0
        """Samples of which it is known whether they are speech; the others have only just come."""
        self.num_received = 0
        self._voice = voice
        self._room = np.zeros(4 * SAMPLE_RATE, np.float32)
        """Holds what is kept at its beginning; grows by doubling."""
        self._first = 0
        """Position of the first sample that is kept."""
        self._spans: deque[Span] = deque()
        self._speaking_since: int | None = None

    def append(self, samples: Samples) -> None:
        kept = self.num_kept
        if kept + len(samples) > len(self._room):
            room = np.zeros(max(2 * len(self._room), kept + len(samples)), np.float32)
            room[:kept] = self._room[:kept]
            self._room = room
        self._room[kept : kept + len(samples)] = samples
        self.num_received += len(samples)

    @property
    def num_kept(self) -> int:
        return self.num_received - self._first

    @property
    def num_unjudged(self) -> int:
        return self.num_received - self.num_judged

    def judge(self) -> None:
        """Find out where the new sound is speech; less than a frame is left for the next time."""
        num_frames = self.num_unjudged // FRAME_SAMPLES
        if not num_frames:
            return
        end = self.num_judged + num_frames * FRAME_SAMPLES
        for probability in self._voice.judge(self.cut(self.num_judged, end).reshape(num_frames, FRAME_SAMPLES)):
            self._note(float(probability))
            self.num_judged += FRAME_SAMPLES

    def _note(self, probability: float) -> None:
        if self._speaking_since is None and probability >= VOICE_BEGINS:
            self._speaking_since = self.num_judged
        elif self._speaking_since is not None and probability < VOICE_ENDS:
            self._spans.append(Span(self._speaking_since, self.num_judged))
            self._speaking_since = None

    def first_utterance(self, after: int) -> Utterance | None:
        """The first that ends after this position; None: nobody spoke since."""
        pause = int(PAUSE_S * SAMPLE_RATE)
        spans = list(self._spans)
        if self._speaking_since is not None:
            spans.append(Span(self._speaking_since, self.num_judged))
        spans = [span for span in spans if span.end > after]
        if not spans:
            return None
        start, end = spans[0]
        for span in spans[1:]:
            if span.start - end >= pause:
                return Utterance(start, end, is_over=True)
            end = span.end
        is_over = self._speaking_since is None and self.num_judged - end >= pause
        return Utterance(start, end, is_over)

    def cut(self, start: int, end: int) -> Samples:
        """A copy: what is kept moves when more comes."""
        first, last = max(start - self._first, 0), min(end - self._first, self.num_kept)
        return self._room[first : max(first, last)].copy()

    def forget(self, before: int) -> None:
        """What was heard for the last time."""
        before = min(before, self.num_judged)
        while self._spans and self._spans[0].end <= before:
            self._spans.popleft()
        if before > self._first:
            rest = self.cut(before, self.num_received)
            self._room[: len(rest)] = rest
            self._first = before

    def skip(self) -> None:
        """Forget everything that has come, heard or not."""
        self._spans.clear()
        self._speaking_since = None
        self._first = self.num_judged = self.num_received
