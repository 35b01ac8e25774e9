"""A conversation with a deployed model, answered piece by piece."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import msgspec

from appliance.sdk.errors import NoAnswer, error_from_event


class Events(Protocol):
    """What `client.py` does for a stream."""

    def events(self, path: str, body: object) -> Iterator[bytes]: ...


class Message(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatPiece(msgspec.Struct, frozen=True, kw_only=True):
    """What one event added. The last ones carry `finish_reason` and `usage`."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]
    usage: Usage | None = None


_chunks = msgspec.json.Decoder(_Chunk)


class Chat:
    def __init__(self, transport: Events) -> None:
        self._transport = transport

    def stream(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Iterator[ChatPiece]:
        """Ask, and yield the answer as it is made. Closing the iterator ends the generation."""
        body = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        for event in self._transport.events("/inference/v1/chat/completions", body):
            yield _read_piece(event)


def _read_piece(event: bytes) -> ChatPiece:
    try:
        chunk = _chunks.decode(event)
    except msgspec.DecodeError as error:
        raise error_from_event(event) or NoAnswer(f"the server's stream cannot be read: {error}") from error
    if not chunk.choices:
        return ChatPiece(usage=chunk.usage)
    choice = chunk.choices[0]
    return ChatPiece(text=choice.delta.content or "", finish_reason=choice.finish_reason, usage=chunk.usage)
