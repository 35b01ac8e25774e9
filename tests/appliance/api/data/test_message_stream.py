"""Anthropic's events, whatever the sizes of the steps in which the answer came."""

import json
from typing import Any

import pytest

from appliance.api.data.generation import GenerationBody
from appliance.api.data.message_stream import MessageEncoder
from appliance.errors import HearthError
from runtime.protocol import Delta, ToolCallDelta
from tests.appliance.api.data.samples import MODEL, finish, generation_of, stopwatch

ANSWER = [
    Delta(request_id="id", reasoning="Hm"),
    Delta(request_id="id", reasoning=".", text='S"o'),
    Delta(request_id="id", tool_calls=[ToolCallDelta(index=0, id="call_0", name="f")]),
    Delta(request_id="id", tool_calls=[ToolCallDelta(index=0, arguments='{"a": 1}')]),
    Delta(request_id="id", tool_calls=[ToolCallDelta(index=1, id="call_1", name="g", arguments="{}")]),
    finish(finish_reason="tool_calls"),
]


def events(*steps: list[Delta]) -> list[Any]:
    encoder = MessageEncoder(generation_of(GenerationBody(model=MODEL)), stopwatch())
    text = b"".join([*map(encoder.encode, steps), encoder.end()]).decode()
    *found, rest = text.split("\n\n")
    assert rest == ""
    values = []
    for event in found:
        name, data = event.split("\n")
        values.append(json.loads(data.removeprefix("data: ")))
        assert values[-1]["type"] == name.removeprefix("event: ")
    return values


def test_message_and_blocks_begin_grow_and_end() -> None:
    began, *middle, ended, stopped = events(*([delta] for delta in ANSWER))
    assert began["message"].pop("usage").keys() >= {"input_tokens", "output_tokens"}
    assert began["message"] == {
        "id": "msg_id",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    assert [(event["type"].removeprefix("content_block_"), event["index"]) for event in middle] == [
        *[("start", 0), ("delta", 0), ("delta", 0), ("stop", 0)],
        *[("start", 1), ("delta", 1), ("stop", 1)],
        *[("start", 2), ("delta", 2), ("stop", 2)],
        *[("start", 3), ("delta", 3), ("stop", 3)],
    ]
    assert [event["content_block"] for event in middle if "content_block" in event] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {}},
        {"type": "tool_use", "id": "call_1", "name": "g", "input": {}},
    ]
    assert [event["delta"] for event in middle if "delta" in event] == [
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "thinking_delta", "thinking": "."},
        {"type": "text_delta", "text": 'S"o'},
        {"type": "input_json_delta", "partial_json": '{"a": 1}'},
        {"type": "input_json_delta", "partial_json": "{}"},
    ]
    assert ended["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert ended["usage"]["output_tokens"] == 2
    assert stopped == {"type": "message_stop"}


def test_sizes_of_steps_change_nothing() -> None:
    assert events(ANSWER) == events(*([delta] for delta in ANSWER))


def test_empty_answer_begins_and_ends() -> None:
    assert [event["type"] for event in events([finish()])] == ["message_start", "message_delta", "message_stop"]


def test_stream_without_an_end_is_an_error() -> None:
    with pytest.raises(HearthError):
        events(ANSWER[:2])
