"""The messages of a conversation that is listened to: what a client's mean, and what the server's look like. Pure."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from appliance.api.codec import decode_json
from appliance.api.data.speech_answer import TimedWord
from appliance.errors import Code, HearthError
from runtime.protocol import AnyFollowUp, AnyPiece
from runtime.tasks.speech import AudioChunk, Cleared, ClearState, Heard, Segment, Trace, Traced

SAMPLE_RATE = 16_000
BYTES_PER_S = 2 * SAMPLE_RATE
"""16 bits, mono."""
CLEAR, CLEARED = "stt.state.clear", "stt.state.cleared"
TRACE, TRACED = "stt.input.trace", "stt.output.trace"
_OF_TRACE, _OF_CHECKPOINT = "trace:", "checkpoint:"
"""How the worker is told one from the other, for it answers both with their ids."""

ClientId = Annotated[str, msgspec.Meta(max_length=256)]


class ClientMessage(msgspec.Struct, kw_only=True):
    """Every text that a client may send, in one: clear the state, a trace, or a checkpoint as older clients do."""

    object: Literal["stt.state.clear", "stt.input.trace"] | None = None
    event_id: ClientId | None = None
    reset_id: ClientId | None = None
    trace_id: ClientId | None = None
    checkpoint_id: ClientId | None = None


class LiveSegment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Takes the place of the one with its id."""

    id: str
    text: str
    words: list[TimedWord] | msgspec.UnsetType = msgspec.UNSET
    start: float | msgspec.UnsetType = msgspec.UNSET
    """Seconds since the connection began; so is `end`."""
    end: float | msgspec.UnsetType = msgspec.UNSET


class LiveText(msgspec.Struct, kw_only=True):
    """What is new or has changed."""

    task: Literal["transcribe"] = "transcribe"
    language: str
    text: str
    """Of these segments together."""
    words: list[TimedWord] | None
    segments: list[LiveSegment]


class StateCleared(msgspec.Struct, kw_only=True):
    event_id: str
    object: Literal["stt.state.cleared"] = "stt.state.cleared"
    reset_id: str


class OutputTrace(msgspec.Struct, kw_only=True):
    event_id: str
    object: Literal["stt.output.trace"] = "stt.output.trace"
    trace_id: str


class Checkpoint(msgspec.Struct, kw_only=True):
    checkpoint_id: str


_encode = msgspec.json.Encoder().encode


def read_sound(request_id: str, data: bytes) -> AudioChunk:
    return AudioChunk(request_id=request_id, data=data)


def read_text(request_id: str, text: str) -> AnyFollowUp:
    """Raises `invalid` naming the field."""
    message = decode_json(text.encode(errors="replace"), ClientMessage)
    match message:
        case ClientMessage(object="stt.state.clear"):
            return ClearState(request_id=request_id, reset_id=_required(message.reset_id, "reset_id"))
        case ClientMessage(object="stt.input.trace"):
            return Trace(request_id=request_id, trace_id=_OF_TRACE + _required(message.trace_id, "trace_id"))
        case ClientMessage(checkpoint_id=str(checkpoint_id)):
            return Trace(request_id=request_id, trace_id=_OF_CHECKPOINT + checkpoint_id)
    raise HearthError(Code.INVALID, f"object: send {CLEAR} or {TRACE}, or a checkpoint_id", "object")


def render(piece: AnyPiece, granularities: frozenset[str]) -> bytes | None:
    """None: nothing that a client is told."""
    match piece:
        case Heard(segments=[]):
            return None
        case Heard():
            return _encode(_live_text(piece, granularities))
        case Cleared(reset_id=reset_id):
            return _encode(StateCleared(event_id=_new_event_id(), reset_id=reset_id))
        case Traced(trace_id=trace_id) if trace_id.startswith(_OF_CHECKPOINT):
            return _encode(Checkpoint(checkpoint_id=trace_id.removeprefix(_OF_CHECKPOINT)))
        case Traced(trace_id=trace_id):
            return _encode(OutputTrace(event_id=_new_event_id(), trace_id=trace_id.removeprefix(_OF_TRACE)))
    raise HearthError(Code.INTERNAL, "the worker answered something else")


def _live_text(heard: Heard, granularities: frozenset[str]) -> LiveText:
    segments = [_live_segment(segment, heard.language, granularities) for segment in heard.segments]
    words = None
    if "word" in granularities:
        words = [word for segment in heard.segments for word in _words(segment, heard.language)]
    return LiveText(
        language=heard.language,
        text=" ".join(segment.text for segment in segments if segment.text),
        words=words,
        segments=segments,
    )


def _live_segment(segment: Segment, language: str, granularities: frozenset[str]) -> LiveSegment:
    has_times = "segment" in granularities
    return LiveSegment(
        id=str(segment.id),
        text=segment.text.strip(),
        words=list(_words(segment, language)) if "word" in granularities else msgspec.UNSET,
        start=round(segment.start, 3) if has_times else msgspec.UNSET,
        end=round(segment.end, 3) if has_times else msgspec.UNSET,
    )


def _words(segment: Segment, language: str) -> Sequence[TimedWord]:
    return [
        TimedWord(
            word=word.word.strip(),
            start=round(word.start, 3),
            end=round(word.end, 3),
            language=language,
            probability=word.probability,
            is_final=word.is_final,
        )
        for word in segment.words or []
    ]


def _required(value: str | None, name: str) -> str:
    if value is None:
        raise HearthError(Code.INVALID, f"{name}: this field is required", name)
    return value


def _new_event_id() -> str:
    return f"event_{secrets.token_hex(12)}"
