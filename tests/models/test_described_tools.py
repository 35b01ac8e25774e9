from typing import Any

from models.described_tools import describe_tools

USER = {"role": "user", "content": "hi"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def call(name: str, call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": {"x": "ü"}}}


def result(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def test_a_conversation_without_tools_is_unchanged() -> None:
    messages = [{"role": "system", "content": "S"}, USER, {"role": "assistant", "content": "yes"}, USER]
    assert describe_tools(messages, []) == messages


def test_tools_are_introduced_in_a_turn_that_is_there() -> None:
    [system, user] = describe_tools([{"role": "system", "content": "S"}, USER], [TOOL])
    assert system["content"].startswith("S\n\nYou may call")
    assert '{"name": "f", "parameters": {"type": "object"}}' in system["content"]
    assert user == USER
    [told] = describe_tools([USER], [TOOL])
    assert told["role"] == "user"
    assert told["content"].endswith("\n\nhi")
    [alone] = describe_tools([], [TOOL])
    assert alone["role"] == "user"


def test_an_image_stays_beside_the_introduction() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "what?"}]
    [told] = describe_tools([{"role": "user", "content": parts}], [TOOL])
    assert told["content"][1:] == parts
    assert told["content"][0]["text"].startswith("You may call")


def test_calls_and_results_become_plain_turns_that_alternate() -> None:
    called = {"role": "assistant", "content": "Well.", "tool_calls": [call("f", "1"), call("g", "2")]}
    plain = describe_tools([USER, called, result("1", "A"), result("2", "B"), USER], [])
    assert [message["role"] for message in plain] == ["user", "assistant", "user"]
    written = '[{"name": "f", "arguments": {"x": "ü"}}, {"name": "g", "arguments": {"x": "ü"}}]'
    assert plain[1]["content"] == "Well.\n" + written
    assert plain[2]["content"] == "f returned: A\ng returned: B\nhi"


def test_one_call_is_written_as_one_object() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [call("f", "1")]}
    assert describe_tools([USER, called], [])[1]["content"] == '{"name": "f", "arguments": {"x": "ü"}}'


def test_a_result_without_its_call_is_still_told() -> None:
    assert describe_tools([{"role": "tool", "content": "42"}], []) == [
        {"role": "user", "content": "the function returned: 42"}
    ]
