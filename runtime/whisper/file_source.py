"""A sound file as a source of windows: its clips are heard in any company, and answered in the order of time.

Times of what was heard are on a clock that stands still where nobody speaks; here they become those of the file.
Where nobody said which language is spoken, one clip is heard first to find out, and the others follow in it.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from faster_whisper.vad import SpeechTimestampsMap
from numpy.typing import NDArray

from runtime.message import Used
from runtime.protocol import AnyPiece
from runtime.tasks.speech import Listening, Segment, Transcribed, Word
from runtime.whisper.voice import Clip, cut
from runtime.whisper.windows import SAMPLE_RATE, Window, WindowText

_TELLING_S = 15.0
"""So much speech tells its language."""
_NUM_CLIPS_TO_TELL = 3


class FileClock:
    """From the clock of speech to that of the file, by faster-whisper's rules."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        chunks = [{"start": one.start, "end": one.end} for clip in clips for one in clip.stretches]
        self._map: Any = SpeechTimestampsMap(chunks, SAMPLE_RATE)

    def restore(self, segment: Segment) -> Segment:
        if not segment.words:
            start = self._map.get_original_time(segment.start)
            return msgspec.structs.replace(
                segment, start=start, end=self._map.get_original_time(segment.end, is_end=True)
            )
        words = [self.restore_word(word) for word in segment.words]
        return msgspec.structs.replace(segment, start=words[0].start, end=words[-1].end, words=words)

    def restore_word(self, word: Word) -> Word:
        # Both ends belong to the stretch in which its middle lies: a word is not stretched over a pause.
        index = self._map.get_chunk_index((word.start + word.end) / 2)
        start, end = (self._map.get_original_time(time, index) for time in (word.start, word.end))
        return msgspec.structs.replace(word, start=start, end=end)


class FileSource:
    """Of a Transcribe."""

    def __init__(
        self,
        request_id: str,
        tenant: str,
        samples: NDArray[np.int16],
        clips: list[Clip],
        listening: Listening,
        prompt_token_ids: list[int],
    ) -> None:
        self.request_id = request_id
        self.tenant = tenant
        self.is_finished = False
        self._samples = samples
        self._listening = listening
        self._prompt_token_ids = prompt_token_ids
        self._clips = clips
        self._clock = FileClock(clips) if clips else None
        self._language = listening.language
        self._telling = None if self._language else telling_clip(clips)
        """Index of the clip that is heard first; None: all are alike."""
        self._unheard = deque(range(len(clips)))
        self._on_their_way: deque[int] = deque()
        self._heard: dict[int, WindowText] = {}
        self._num_said = 0
        """Clips that were answered."""
        self._num_segments = 0
        self._metered_ms = 0

    @property
    def has_window(self) -> bool:
        is_waiting_for_language = self._telling is not None and bool(self._on_their_way)
        return bool(self._unheard) and not is_waiting_for_language

    def start(self) -> list[AnyPiece]:
        return [] if self._clips else [self._say([], language=self._language or "", probability=0.0)]

    def next_window(self) -> Window | None:
        if not self.has_window:
            return None
        if self._telling is not None:
            index = self._telling
            self._unheard.remove(index)
        else:
            index = self._unheard.popleft()
        self._on_their_way.append(index)
        clip = self._clips[index]
        return Window(
            samples=cut(self._samples, clip),
            start_s=clip.start / SAMPLE_RATE,
            listening=self._listening,
            prompt_token_ids=self._prompt_token_ids,
            language=self._language,
            last_speech_s=0.0 if index == 0 else None,
        )

    def take(self, text: WindowText) -> list[AnyPiece]:
        if self._telling is not None:
            self._telling, self._language = None, text.language
        self._heard[self._on_their_way.popleft()] = text
        segments: list[Segment] = []
        num_said = self._num_said
        while (heard := self._heard.pop(self._num_said, None)) is not None:
            self._num_said += 1
            segments += self._restored(heard)
        if self._num_said == num_said:
            return []
        return [self._say(segments, language=text.language, probability=text.language_probability)]

    def feed(self, item: Any) -> list[AnyPiece]:
        raise AssertionError("a file is whole when it is taken up")

    def _restored(self, heard: WindowText) -> list[Segment]:
        assert self._clock is not None
        restored = []
        for segment in heard.segments:
            self._num_segments += 1
            restored.append(msgspec.structs.replace(self._clock.restore(segment), id=self._num_segments))
        return restored

    def _say(self, segments: list[Segment], *, language: str, probability: float) -> Transcribed:
        self.is_finished = self._num_said == len(self._clips)
        duration_s = len(self._samples) / SAMPLE_RATE
        until = len(self._samples) if self.is_finished else self._clips[self._num_said - 1].stretches[-1].end
        audio_ms = round(until / SAMPLE_RATE * 1000) - self._metered_ms
        self._metered_ms += audio_ms
        return Transcribed(
            request_id=self.request_id,
            is_last=self.is_finished,
            used=Used(audio_ms=audio_ms),
            segments=segments,
            language=language,
            language_probability=probability,
            duration_s=duration_s,
        )


def telling_clip(clips: Sequence[Clip]) -> int | None:
    """Of the first few the first that is long enough to tell its language, else the longest; None: there are none."""
    beginning = clips[:_NUM_CLIPS_TO_TELL]
    for index, clip in enumerate(beginning):
        if clip.num_samples >= _TELLING_S * SAMPLE_RATE:
            return index
    return max(range(len(beginning)), key=lambda index: beginning[index].num_samples, default=None)
