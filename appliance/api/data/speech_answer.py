"""What was heard as clients read it: plain JSON, JSON with all details, and subtitles (`subtitles.py`).

Knows no field of a request but those that shape the answer.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.codec import json_response
from appliance.api.data.speech_fields import Format
from appliance.api.data.subtitles import to_srt, to_vtt
from appliance.api.routing import Content
from appliance.errors import Code, HearthError
from appliance.services.languages import ENGLISH
from runtime.protocol import AnyPiece
from runtime.tasks.speech import Segment, Transcribed, Word

NO_SPEECH_PROB = 0.6
AVG_LOGPROB = -1.0
"""A segment that is likelier no speech than the first, and less likely text than the second, is none."""


class AudioUsage(msgspec.Struct):
    seconds: float
    type: Literal["duration"] = "duration"


class TimedWord(msgspec.Struct):
    word: str
    start: float
    end: float
    language: str
    probability: float
    hallucination_score: float | None = None
    """Not computed here."""
    is_final: bool = True


class TimedSegment(msgspec.Struct):
    id: int
    seek: int
    start: float
    end: float
    audio_start: float
    """Of the sound that the text was heard in; likewise `audio_end`."""
    audio_end: float
    text: str
    language: str
    tokens: list[int]
    words: list[TimedWord] | None
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    no_speech: bool
    retry_count: int
    """Temperatures that were tried before this one."""


class SpokenText(msgspec.Struct, kw_only=True):
    """The format json has the first two members, verbose_json all."""

    text: str
    usage: AudioUsage
    task: Literal["transcribe", "translate"] | msgspec.UnsetType = msgspec.UNSET
    language: str | msgspec.UnsetType = msgspec.UNSET
    """Of the text."""
    duration: float | msgspec.UnsetType = msgspec.UNSET
    words: list[TimedWord] | msgspec.UnsetType | None = msgspec.UNSET
    segments: list[TimedSegment] | msgspec.UnsetType | None = msgspec.UNSET


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Of an answer."""

    format: Format
    granularities: frozenset[str] = frozenset({"segment"})
    is_translated: bool = False
    temperatures: list[float] = []

    @property
    def has_words(self) -> bool:
        return "word" in self.granularities


class HeardText:
    """All that was heard, as it comes."""

    def __init__(self, shape: Shape) -> None:
        self.segments: list[Segment] = []
        self.duration_s = 0.0
        self._shape = shape
        self._language = ""

    def add(self, piece: AnyPiece) -> list[Segment]:
        """The segments that it brings, numbered from 0."""
        if not isinstance(piece, Transcribed):
            raise HearthError(Code.INTERNAL, "the worker answered something else")
        first = len(self.segments)
        self.segments += [replace(segment, id=first + place) for place, segment in enumerate(piece.segments)]
        self.duration_s = piece.duration_s or self.duration_s
        self._language = piece.language or self._language
        return self.segments[first:]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def language(self) -> str:
        return ENGLISH if self._shape.is_translated else self._language

    @property
    def usage(self) -> AudioUsage:
        return AudioUsage(seconds=round(self.duration_s, 3))

    def respond(self, headers: Mapping[str, str]) -> web.Response:
        match self._shape.format:
            case "json":
                return json_response(SpokenText(text=self.text, usage=self.usage), headers=headers)
            case "verbose_json":
                return json_response(self.verbose(), headers=headers)
            case "text":
                return _text_response(self.text, "text/plain", headers)
            case "srt":
                return _text_response(to_srt(self.segments), "text/plain", headers)
            case "vtt":
                return _text_response(to_vtt(self.segments), "text/vtt", headers)

    def verbose(self) -> SpokenText:
        shape = self._shape
        words = [word for segment in self.segments for word in self._words(segment) or []]
        return SpokenText(
            task="translate" if shape.is_translated else "transcribe",
            language=self.language,
            duration=self.duration_s,
            text=self.text,
            words=words if shape.has_words else None,
            segments=[self.timed(each) for each in self.segments] if "segment" in shape.granularities else None,
            usage=self.usage,
        )

    def timed(self, segment: Segment) -> TimedSegment:
        is_silent = segment.no_speech_prob > NO_SPEECH_PROB and segment.avg_logprob < AVG_LOGPROB
        tried = self._shape.temperatures
        return TimedSegment(
            id=segment.id,
            seek=segment.seek,
            start=segment.start,
            end=segment.end,
            audio_start=segment.start,
            audio_end=segment.end,
            text=segment.text,
            language=self.language,
            tokens=segment.token_ids,
            words=self._words(segment),
            temperature=segment.temperature,
            avg_logprob=segment.avg_logprob,
            compression_ratio=segment.compression_ratio,
            no_speech_prob=segment.no_speech_prob,
            no_speech=is_silent,
            retry_count=tried.index(segment.temperature) if segment.temperature in tried else 0,
        )

    def _words(self, segment: Segment) -> list[TimedWord] | None:
        return [self._word(word) for word in segment.words or []] if self._shape.has_words else None

    def _word(self, word: Word) -> TimedWord:
        return TimedWord(
            word=word.word.strip(),
            start=word.start,
            end=word.end,
            language=self.language,
            probability=word.probability,
            is_final=word.is_final,
        )


TEXT_ANSWERS = (
    Content("text/plain", "The text, or subtitles in SubRip's form.", is_text=True),
    Content("text/vtt", "Subtitles in WebVTT's form.", is_text=True),
)
"""Of the other formats."""


def _text_response(text: str, content_type: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(text=text, content_type=content_type, charset="utf-8", headers=headers)
