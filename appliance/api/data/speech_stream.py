"""What was heard as server-sent events: text as it is understood, segments for those who want details, all at the end.

The deltas, put together, are the text of the last event.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import msgspec

from appliance.api.data.calls import Running
from appliance.api.data.speech_answer import AudioUsage, HeardText, Shape, TimedSegment

_encode = msgspec.json.Encoder().encode


class SpeechEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One of three; members that it does not have are left out."""

    type: Literal["transcript.text.delta", "transcript.text.segment", "transcript.text.done"]
    delta: str | msgspec.UnsetType = msgspec.UNSET
    """Of a delta: what follows the text until now."""
    segment: TimedSegment | msgspec.UnsetType = msgspec.UNSET
    """Of a segment, with the format verbose_json; likewise the next three, which are its own."""
    id: str | msgspec.UnsetType = msgspec.UNSET
    start: float | msgspec.UnsetType = msgspec.UNSET
    end: float | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    """Of a segment its own, of the end all."""
    language: str | msgspec.UnsetType = msgspec.UNSET
    """Of the end; likewise the next two."""
    duration: float | msgspec.UnsetType = msgspec.UNSET
    usage: AudioUsage | msgspec.UnsetType = msgspec.UNSET


async def speech_events(running: Running, shape: Shape) -> AsyncGenerator[bytes, None]:
    heard, sent = HeardText(shape), ""
    async with aclosing(running.pieces()) as pieces:
        async for piece in pieces:
            segments = heard.add(piece)
            if segments and shape.format == "verbose_json":
                yield b"".join(_event(_segment(heard.timed(segment))) for segment in segments)
            text = heard.text
            if len(text) > len(sent):
                yield _event(SpeechEvent(type="transcript.text.delta", delta=text[len(sent) :]))
                sent = text
    yield _event(
        SpeechEvent(
            type="transcript.text.done",
            text=heard.text,
            language=heard.language,
            duration=heard.duration_s,
            usage=heard.usage,
        )
    )


def _segment(timed: TimedSegment) -> SpeechEvent:
    return SpeechEvent(
        type="transcript.text.segment",
        segment=timed,
        id=str(timed.id),
        start=timed.start,
        end=timed.end,
        text=timed.text,
    )


def _event(event: SpeechEvent) -> bytes:
    return b"data: " + _encode(event) + b"\n\n"
