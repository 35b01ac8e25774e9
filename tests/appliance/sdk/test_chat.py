from collections.abc import Iterator

import msgspec
import pytest

from appliance.sdk.chat import Chat, ChatPiece, Message, Usage
from appliance.sdk.errors import ApiError, NoAnswer


class ScriptedEvents:
    def __init__(self, *events: bytes) -> None:
        self._events = events
        self.body: dict[str, object] = {}

    def events(self, path: str, body: object) -> Iterator[bytes]:
        self.body = msgspec.to_builtins(body)
        yield from self._events


def ask(*events: bytes) -> list[ChatPiece]:
    return list(Chat(ScriptedEvents(*events)).stream("m", [Message("user", "Hi")]))


def test_pieces_follow_the_events() -> None:
    pieces = ask(
        b'{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "Hello"}}], "usage": null}',
        b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
        b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}',
    )
    assert "".join(piece.text for piece in pieces) == "Hello"
    assert pieces[2].finish_reason == "stop"
    assert pieces[3].usage == Usage(prompt_tokens=3, completion_tokens=1)


def test_options_not_given_are_not_decided() -> None:
    events = ScriptedEvents()
    list(Chat(events).stream("m", [Message("user", "Hi")], temperature=0.0))
    assert events.body["messages"] == [{"role": "user", "content": "Hi"}]
    assert (events.body["temperature"], events.body["max_tokens"]) == (0.0, None)


def test_an_error_event_raises_what_it_says() -> None:
    with pytest.raises(ApiError, match="the worker was lost") as caught:
        ask(
            b'{"choices": [{"delta": {"content": "He"}}]}',
            b'{"error": {"message": "the worker was lost", "code": "W"}}',
        )
    assert caught.value.code == "W"


def test_an_event_that_is_neither_chunk_nor_error_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="cannot be read"):
        ask(b'{"choices": 3}')
