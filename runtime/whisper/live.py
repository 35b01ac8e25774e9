"""A conversation as a source of windows: what is said is heard again and again while it is spoken, and once at its end.

Speech between two pauses is an utterance, and a segment of the answer; a long one is cut into several segments where
its words are certain. A window holds the open segment as far as it has come, so that what is answered lags behind what
is said by one hearing, however slow the machine. Which words are certain is decided in `confirmation.py`, where
somebody speaks in `live_sound.py`.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from runtime.engine import RequestRefused
from runtime.message import FailureCode, Used
from runtime.protocol import AnyPiece
from runtime.tasks.speech import (
    AudioChunk,
    Cleared,
    ClearState,
    Heard,
    Listen,
    Segment,
    Trace,
    Traced,
    Word,
)
from runtime.whisper.confirmation import Confirmation
from runtime.whisper.live_sound import LiveSound, VoiceModel
from runtime.whisper.windows import SAMPLE_RATE, WINDOW_S, Window, WindowText

STEP_S = 0.5
"""New sound before an utterance is heard again."""
JUDGED_S = 0.1
"""New sound before it is found out whether it is speech."""
MARGIN_S = 0.3
"""Of sound before and after speech that is heard with it."""
CUT_AFTER_SHARE = 0.5
"""Of what the model hears at once: a longer open segment is cut where its words are certain."""
SPARE_S = 2.0
"""Windows stay so much shorter than what the model hears at once."""
UNCERTAIN_S = 3.0
"""At the end of a window of that length: what is left to the next, if nothing is certain."""
TELLING_S = 5.0
"""So much speech tells its language for the rest of the conversation."""
BACKLOG_S_MAX = 120.0
METERED_S = 5.0
"""Sound without an answer is told after so much of it."""
NO_SPEECH_PROB = 0.6
AVG_LOGPROB = -1.0
"""What is likelier no speech than the first, and less likely text than the second, is none."""


class _Hearing(NamedTuple):
    """A window that is on its way."""

    begin: int
    end: int
    is_utterance_over: bool
    is_wanted: bool = True


class _OpenSegment(NamedTuple):
    id: int
    begin: int
    """In samples; so far back its window reaches."""
    continues: bool
    """Whether it was cut off the one before, rather than begun after a pause."""
    confirmation: Confirmation


class LiveSource:
    """Of a Listen. `encode`: text to token ids, without special ones; `clip_s`: what the model hears at once."""

    def __init__(
        self, task: Listen, voice: VoiceModel, encode: Callable[[str], list[int]], clip_s: float = WINDOW_S
    ) -> None:
        self._cut_after_s = CUT_AFTER_SHARE * clip_s
        self._window_s = clip_s - SPARE_S
        self.request_id = task.request_id
        self.tenant = task.tenant
        self.is_finished = False
        self.has_window = False
        self._listening = task.listening
        self._encode = encode
        self._prompt = encode(" " + task.listening.prompt.strip()) if task.listening.prompt.strip() else []
        self._language = task.listening.language
        self._sound = LiveSound(voice)
        self._odd = b""
        """Half a sample that has come."""
        self._segment: _OpenSegment | None = None
        self._num_shown = 0
        """Segments that the client knows of; those that never had words leave no gap."""
        self._text_before = ""
        """Of the last segment that is closed."""
        self._last_word_end_s = 0.0
        self._position = 0
        """Everything before it was heard, or is no speech."""
        self._free_from = 0
        """Closed segments end here."""
        self._metered = 0
        self._hearing: _Hearing | None = None
        self._traces: deque[tuple[str, int]] = deque()
        self._is_ended = False

    # ---- as the engine sees it

    def start(self) -> list[AnyPiece]:
        return []

    def feed(self, item: AudioChunk | Trace | ClearState) -> list[AnyPiece]:
        match item:
            case AudioChunk(data=data, is_last=is_last):
                self._append(data)
                self._is_ended = self._is_ended or is_last
            case Trace(trace_id=trace_id):
                self._traces.append((trace_id, self._sound.num_received))
            case ClearState(reset_id=reset_id):
                return [*self._advance(), *self._clear(reset_id)]
        if self._is_flushed or self._sound.num_unjudged >= JUDGED_S * SAMPLE_RATE:
            self._sound.judge()
        return self._advance()

    def next_window(self) -> Window | None:
        if not self.has_window:
            return None
        hearing = self._plan()
        assert hearing is not None
        self._hearing, self.has_window = hearing, False
        if self._segment is None:
            self._segment = _OpenSegment(self._num_shown, hearing.begin, False, Confirmation())
        prompt = self._prompt
        if self._segment.continues:
            prompt = prompt + self._encode(self._text_before)
        return Window(
            samples=self._sound.cut(hearing.begin, hearing.end),
            start_s=hearing.begin / SAMPLE_RATE,
            # Words are needed to tell which of them are certain, whether or not they are shown.
            listening=msgspec.structs.replace(self._listening, has_words=True),
            prompt_token_ids=prompt,
            language=self._language,
            last_speech_s=self._last_word_end_s,
        )

    def take(self, text: WindowText) -> list[AnyPiece]:
        hearing, self._hearing = self._hearing, None
        assert hearing is not None
        if not hearing.is_wanted or self._segment is None:
            return self._advance()
        if self._language is None and hearing.end - hearing.begin >= TELLING_S * SAMPLE_RATE:
            self._language = text.language
        segments = self._hear(self._segment, hearing, _words(text.segments))
        self._position = max(self._position, hearing.end)
        return self._advance(segments, text.language)

    # ---- what is heard next

    @property
    def _is_flushed(self) -> bool:
        """Whether somebody waits until everything was heard."""
        return self._is_ended or bool(self._traces)

    def _plan(self) -> _Hearing | None:
        """The next window, if there is something new to hear in it."""
        utterance = self._sound.first_utterance(self._free_from)
        if utterance is None:
            return None
        margin = int(MARGIN_S * SAMPLE_RATE)
        begin = max(utterance.start - margin, self._free_from) if self._segment is None else self._segment.begin
        longest = begin + int(self._window_s * SAMPLE_RATE)
        now = self._sound.num_judged
        is_over = utterance.is_over or (self._is_ended and utterance.end <= longest)
        if is_over and utterance.end + margin <= longest:
            return _Hearing(begin, min(utterance.end + margin, now), is_utterance_over=True)
        end = min(now, longest)
        step = 1 if self._is_flushed and utterance.end > self._position else int(STEP_S * SAMPLE_RATE)
        if end - max(self._position, begin) >= step or end == longest:
            return _Hearing(begin, end, is_utterance_over=False)
        return None

    def _advance(self, segments: Sequence[Segment] = (), language: str = "") -> list[AnyPiece]:
        """After anything happened: what can be said by now, and whether there is something to hear."""
        changed = list(segments)
        if self._hearing is None:
            self.has_window = self._plan() is not None
            if not self.has_window:
                changed += self._note_silence()
        pieces = self._heard(changed, language or self._language or "")
        while self._traces and self._is_heard(self._traces[0][1]):
            pieces.append(Traced(request_id=self.request_id, trace_id=self._traces.popleft()[0]))
        if self._is_ended and self._hearing is None and not self.has_window:
            self.is_finished = True
            pieces.append(Heard(request_id=self.request_id, segments=[], is_last=True, used=self._used()))
        return pieces

    def _note_silence(self) -> list[Segment]:
        """There is nothing to hear now: what came since is silence, or too short to be heard yet."""
        changed: list[Segment] = []
        if self._sound.first_utterance(self._free_from) is not None:
            if self._is_flushed:
                self._position = self._sound.num_judged
            return changed
        if self._segment is not None:  # what was cut off the segment before was its end
            self._segment.confirmation.end_at(math.inf)
            changed = self._close(self._segment, self._segment.confirmation, self._segment.begin)
        # The last of the silence may belong to the next words.
        self._position = self._sound.num_judged
        self._free_from = max(self._free_from, self._position - int(MARGIN_S * SAMPLE_RATE))
        self._sound.forget(self._free_from)
        return changed

    def _is_heard(self, position: int) -> bool:
        if self._hearing is not None or self.has_window:
            return self._position >= position
        return True  # what is left is less than the voice model judges

    # ---- what becomes of it

    def _hear(self, segment: _OpenSegment, hearing: _Hearing, words: list[Word]) -> list[Segment]:
        """The segments that a hearing changes."""
        end_s = hearing.end / SAMPLE_RATE
        if hearing.is_utterance_over:
            segment.confirmation.end(words)
            return self._close(segment, segment.confirmation, hearing.end)
        segment.confirmation.hear(words, end_s)
        length_s = (hearing.end - hearing.begin) / SAMPLE_RATE
        if length_s >= self._window_s and not segment.confirmation.confirmed:
            segment.confirmation.end_at(end_s - UNCERTAIN_S)
        if length_s < self._cut_after_s or (length_s < self._window_s and not segment.confirmation.confirmed):
            return self._shown(segment)
        return self._cut(segment, hearing)

    def _cut(self, segment: _OpenSegment, hearing: _Hearing) -> list[Segment]:
        """Close it at the widest gap behind a certain word; what is behind becomes a segment of its own."""
        cut = widest_gap(segment.confirmation)
        at_s = cut.at_s if cut is not None else hearing.end / SAMPLE_RATE - UNCERTAIN_S
        first, rest = segment.confirmation.split(cut.num_words if cut is not None else 0)
        begin = min(max(int(at_s * SAMPLE_RATE), segment.begin + 1), hearing.end)
        changed = self._close(segment, first, begin)
        self._segment = _OpenSegment(self._num_shown, begin, True, rest)
        return changed + self._shown(self._segment)

    def _close(self, segment: _OpenSegment, confirmation: Confirmation, end: int) -> list[Segment]:
        closed = segment._replace(confirmation=confirmation)
        self._segment = None
        self._free_from = end
        self._sound.forget(end)
        self._text_before = _text(confirmation.words)
        if confirmation.words:
            self._last_word_end_s = confirmation.words[-1].end
        return self._shown(closed)

    def _shown(self, segment: _OpenSegment) -> list[Segment]:
        """As it stands now; nothing, while it never had any words."""
        words = segment.confirmation.words
        if not words and segment.id >= self._num_shown:
            return []
        self._num_shown = max(self._num_shown, segment.id + 1)
        return [self._as_answered(segment)]

    def _as_answered(self, segment: _OpenSegment) -> Segment:
        words = segment.confirmation.words
        return Segment(
            id=segment.id,
            seek=int(segment.begin / SAMPLE_RATE * 100),
            start=words[0].start if words else segment.begin / SAMPLE_RATE,
            end=words[-1].end if words else segment.begin / SAMPLE_RATE,
            text=_text(words),
            words=words if self._listening.has_words else None,
        )

    def _heard(self, segments: Sequence[Segment], language: str) -> list[AnyPiece]:
        if not segments and self._position - self._metered < METERED_S * SAMPLE_RATE:
            return []
        return [Heard(request_id=self.request_id, segments=list(segments), language=language, used=self._used())]

    def _used(self) -> Used:
        """Sound that was heard since it was asked last."""
        milliseconds = (self._position - self._metered) * 1000 // SAMPLE_RATE
        self._metered += milliseconds * SAMPLE_RATE // 1000
        return Used(audio_ms=milliseconds)

    def _append(self, data: bytes) -> None:
        data = self._odd + data
        whole = len(data) // 2 * 2
        self._odd = data[whole:]
        self._sound.append(np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768.0))
        if self._sound.num_received - self._position > BACKLOG_S_MAX * SAMPLE_RATE:
            message = f"the sound is {BACKLOG_S_MAX:g} s ahead of what was heard; send it as it is spoken"
            raise RequestRefused(FailureCode.RATE_LIMITED, message)

    def _clear(self, reset_id: str) -> list[AnyPiece]:
        """Forget what was said and what waits; time goes on."""
        self._position = self._free_from = self._sound.num_received
        pieces: list[AnyPiece] = [Traced(request_id=self.request_id, trace_id=trace_id) for trace_id, _ in self._traces]
        self._traces.clear()
        self._sound.skip()
        if self._hearing is not None:
            self._hearing = self._hearing._replace(is_wanted=False)
        self._segment, self._num_shown, self._text_before = None, 0, ""
        self.has_window = False
        return [*pieces, Cleared(request_id=self.request_id, reset_id=reset_id, used=self._used())]


class Gap(NamedTuple):
    num_words: int
    """Before it."""
    at_s: float


def widest_gap(confirmation: Confirmation) -> Gap | None:
    """Behind a certain word and before another word; the later of equal ones. None: nothing is certain."""
    words = confirmation.words
    known = len(confirmation.confirmed)
    if not known:
        return None
    gaps = [(words[index].start - words[index - 1].end, index) for index in range(1, min(known, len(words) - 1) + 1)]
    if not gaps:
        return Gap(known, words[-1].end)
    _, index = max(gaps)
    return Gap(index, (words[index - 1].end + words[index].start) / 2)


def _words(segments: Sequence[Segment]) -> list[Word]:
    return [
        word
        for segment in segments
        if not (segment.no_speech_prob > NO_SPEECH_PROB and segment.avg_logprob < AVG_LOGPROB)
        for word in segment.words or []
    ]


def _text(words: Sequence[Word]) -> str:
    return "".join(word.word for word in words)
