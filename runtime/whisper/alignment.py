"""When each word of a known text is said: a source whose windows are heard for their places, not for their words.

Speech that fits one window is aligned at once. Longer speech is listened to first, clip by clip, to know which part of
the text is said in which clip; what was heard serves only for that. Then each clip is aligned with its part.
The answer's segments are the text's lines, or sentences where it has no lines.
"""

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engine import RequestRefused
from runtime.message import FailureCode, Used
from runtime.protocol import AnyPiece
from runtime.tasks.speech import Listening, Segment, Transcribed, Word
from runtime.whisper.file_source import FileClock, telling_clip
from runtime.whisper.voice import Clip, cut
from runtime.whisper.windows import SAMPLE_RATE, Window, WindowText

CHARACTERS_MAX = 200_000
"""Of a text: as much as is said in four hours."""
_SENTENCE_ENDS = ".!?…。！？"
_CLOSING = "\"'”’)]}»」』"
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""Or a character, where words are written without spaces."""


class AlignSource:
    """Of an Align."""

    def __init__(
        self,
        request_id: str,
        tenant: str,
        samples: NDArray[np.int16],
        clips: list[Clip],
        text: str,
        language: str | None,
        count_tokens: Callable[[str], int],
        max_num_tokens: int,
    ) -> None:
        """`max_num_tokens`: of the text that is said in one clip."""
        self.request_id = request_id
        self.tenant = tenant
        self.is_finished = False
        self._samples = samples
        self._clips = clips
        self._text = text
        self._language = language
        self._probability = 1.0
        self._count_tokens = count_tokens
        self._max_num_tokens = max_num_tokens
        self._is_telling = language is None
        """Whether the language is to be found out."""
        self._heard: dict[int, str] = {}
        self._parts: list[str] | None = [text] if len(clips) == 1 else None
        """Of the text, by clip; None: not known yet."""
        self._words: dict[int, list[Word]] = {}
        self._unheard = deque(range(len(clips)))
        if self._is_telling and (first := telling_clip(clips)) is not None:
            self._unheard.remove(first)
            self._unheard.appendleft(first)
        self._on_their_way: deque[int] = deque()

    @property
    def has_window(self) -> bool:
        return bool(self._unheard) and not (self._is_telling and self._on_their_way)

    def start(self) -> list[AnyPiece]:
        if not self._clips:
            raise RequestRefused(FailureCode.INVALID, "file: no speech was found in it to align the text with", "file")
        self._check_parts()
        return []

    def next_window(self) -> Window | None:
        if not self.has_window:
            return None
        index = self._unheard.popleft()
        self._on_their_way.append(index)
        clip = self._clips[index]
        return Window(
            samples=cut(self._samples, clip),
            start_s=clip.start / SAMPLE_RATE,
            listening=Listening(),
            prompt_token_ids=[],
            language=self._language,
            known_text=None if self._parts is None else self._parts[index],
            last_speech_s=clip.start / SAMPLE_RATE,
        )

    def take(self, text: WindowText) -> list[AnyPiece]:
        index = self._on_their_way.popleft()
        if self._is_telling:
            self._is_telling, self._language, self._probability = False, text.language, text.language_probability
        if self._parts is not None:
            self._words[index] = [word for segment in text.segments for word in segment.words or []]
        else:
            self._heard[index] = "".join(segment.text for segment in text.segments)
            if len(self._heard) == len(self._clips):
                self._begin_aligning()
        return [] if self._unheard or self._on_their_way else [self._answer()]

    def feed(self, item: Any) -> list[AnyPiece]:
        raise AssertionError("a file is whole when it is taken up")

    def _begin_aligning(self) -> None:
        weights = [clip.num_samples for clip in self._clips]
        self._parts = share_out(self._text, [self._heard[index] for index in range(len(self._clips))], weights)
        self._check_parts()
        self._unheard.extend(index for index, part in enumerate(self._parts) if part.strip())

    def _check_parts(self) -> None:
        for part in self._parts or []:
            num_tokens = self._count_tokens(part)
            if num_tokens > self._max_num_tokens:
                message = f"text: {num_tokens} tokens of it belong to half a minute of speech, which holds at most "
                raise RequestRefused(FailureCode.INVALID, f"{message}{self._max_num_tokens}", "text")

    def _answer(self) -> Transcribed:
        clock = FileClock(self._clips)
        words = [clock.restore_word(word) for index in sorted(self._words) for word in self._words[index]]
        self.is_finished = True
        duration_s = len(self._samples) / SAMPLE_RATE
        return Transcribed(
            request_id=self.request_id,
            is_last=True,
            used=Used(audio_ms=round(duration_s * 1000)),
            segments=segments_of(words, self._text),
            language=self._language or "",
            language_probability=self._probability,
            duration_s=duration_s,
        )


def share_out(text: str, heard: Sequence[str], weights: Sequence[int]) -> list[str]:
    """The part of the text that belongs to each clip, by the words that were heard there.

    Words that were heard as they are written are anchors; those between two anchors lie between them in proportion.
    Where nothing was heard the clips' `weights` say how much of the text is theirs.
    """
    written = list(_WORD.finditer(text))
    spoken = [[word.casefold() for word in _WORD.findall(part)] for part in heard]
    if any(spoken):
        ends = list(accumulate(map(len, spoken)))
        places = _places([word.group().casefold() for word in written], list(chain.from_iterable(spoken)))
    else:
        ends = list(accumulate(weights))
        places = [ends[-1] * index / len(written) for index in range(len(written))]
    clips = [min(bisect_right(ends, place), len(ends) - 1) for place in places]
    # A part begins where its first word does: what stands between two words belongs to the first of them.
    first_words = [bisect_left(clips, clip) for clip in range(1, len(ends))]
    begins = [0, *(written[index].start() if index < len(written) else len(text) for index in first_words)]
    return [text[begin:end] for begin, end in pairwise([*begins, len(text)])]


def _places(written: list[str], spoken: list[str]) -> list[float]:
    """Of each written word, among the spoken ones; never before that of the word before it."""
    anchors = [(0, 0)]
    for match in SequenceMatcher(None, written, spoken).get_matching_blocks():
        anchors += [(match.a, match.b), (match.a + match.size, match.b + match.size)]
    known, their_places = zip(*anchors, strict=True)
    return [float(place) for place in np.interp(np.arange(len(written)), list(known), list(their_places))]


def segments_of(words: Sequence[Word], text: str) -> list[Segment]:
    """Lines of the text as it was written; sentences where it is one line."""
    line_ends = list(accumulate(_num_visible(line) for line in text.splitlines()))
    has_lines = sum(1 for line in text.splitlines() if line.strip()) > 1
    segments: list[Segment] = []
    current: list[Word] = []
    num_characters = 0
    for word in words:
        current.append(word)
        num_characters += _num_visible(word.word)
        if num_characters in line_ends if has_lines else _ends_sentence(word.word):
            segments.append(_segment(len(segments) + 1, current))
            current = []
    return [*segments, _segment(len(segments) + 1, current)] if current else segments


def _segment(segment_id: int, words: list[Word]) -> Segment:
    start, end = words[0].start, words[-1].end
    text = "".join(word.word for word in words)
    return Segment(id=segment_id, seek=int(start * 100), start=start, end=end, text=text, words=words)


def _num_visible(text: str) -> int:
    return sum(1 for character in text if not character.isspace())


def _ends_sentence(word: str) -> bool:
    return word.rstrip().rstrip(_CLOSING).endswith(tuple(_SENTENCE_ENDS))
