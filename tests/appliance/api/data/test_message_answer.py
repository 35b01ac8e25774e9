"""Whole messages: blocks in the order in which they came, and the ending."""

from typing import Any

import pytest

from appliance.api.data.generation import GenerationBody
from appliance.api.data.message_answer import WholeMessage
from appliance.errors import Code, HearthError
from runtime.protocol import Delta, ToolCallDelta
from tests.appliance.api.data.samples import MODEL, finish, generation_of, stopwatch, usage


def whole(*deltas: Delta) -> dict[str, Any]:
    message = WholeMessage(generation_of(GenerationBody(model=MODEL)))
    message.add(list(deltas), stopwatch())
    return message.render()


def delta(**fields: Any) -> Delta:
    return Delta(request_id="id", **fields)


def call(index: int, arguments: str = "", name: str = "") -> Delta:
    return delta(tool_calls=[ToolCallDelta(index=index, id=f"call_{index}", name=name, arguments=arguments)])


def test_blocks_stand_in_the_order_of_what_was_said() -> None:
    answer = whole(
        delta(reasoning="Hm"),
        delta(reasoning=".", text="So"),
        delta(text=":"),
        call(0, '{"a"', name="f"),
        call(0, ": 1}"),
        call(1, name="g"),
        delta(text="Done"),
        finish(finish_reason="tool_calls"),
    )
    assert answer["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "So:"},
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_1", "name": "g", "input": {}},
        {"type": "text", "text": "Done"},
    ]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("tool_use", None)


def test_call_that_was_cut_off_is_left_out() -> None:
    answer = whole(delta(text="So"), call(0, '{"a', name="f"), finish(finish_reason="length"))
    assert [block["type"] for block in answer["content"]] == ["text"]
    assert answer["stop_reason"] == "max_tokens"


def test_cached_tokens_are_not_counted_twice() -> None:
    assert whole(finish(usage=usage(2, cached=4)))["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
    }


def test_nothing_said_is_no_block() -> None:
    assert whole(finish())["content"] == []


def test_answer_without_an_end_is_an_error() -> None:
    with pytest.raises(HearthError) as caught:
        whole(delta(text="So"))
    assert caught.value.code is Code.INTERNAL
