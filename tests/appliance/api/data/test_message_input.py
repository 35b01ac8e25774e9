"""Blocks become the turns that a chat template knows."""

from typing import Any

import msgspec
import pytest

from appliance.api.data.message_input import InputMessage, SystemBlock, image_sources, to_chat_messages, to_system
from appliance.errors import HearthError
from runtime.submission import ChatMessage, ImagePart, TextPart, ToolCall, ToolCallFunction

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}
PAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


def message(role: str, content: Any) -> InputMessage:
    return msgspec.convert({"role": role, "content": content}, InputMessage)


def turns(role: str, content: Any, images: dict[str, bytes] | None = None) -> list[ChatMessage]:
    return to_chat_messages(message(role, content), "messages[0]", images or {})


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_text_in_either_form_is_the_same(role: Any) -> None:
    expected = [ChatMessage(role=role, content="ab")]
    assert turns(role, "ab") == turns(role, [text("a"), text("b")]) == expected
    assert turns(role, []) == [ChatMessage(role=role, content="")]


def test_system_is_a_turn_where_it_says_something() -> None:
    expected = [ChatMessage(role="system", content="ab")]
    assert to_system("ab") == to_system([SystemBlock(type="text", text=piece) for piece in "ab"]) == expected
    assert to_system(None) == to_system("") == []


def test_assistants_thoughts_words_and_calls_are_one_turn() -> None:
    said = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        text("So"),
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}},
        {"type": "tool_use", "id": "2", "name": "g", "input": {}},
    ]
    calls = [
        ToolCall(id="1", function=ToolCallFunction(name="f", arguments='{"a":[1]}')),
        ToolCall(id="2", function=ToolCallFunction(name="g", arguments="{}")),
    ]
    assert turns("assistant", said) == [
        ChatMessage(role="assistant", content="So", reasoning_content="Hm.", tool_calls=calls)
    ]
    assert turns("assistant", said[3:]) == [ChatMessage(role="assistant", tool_calls=calls)]


def test_results_are_turns_of_their_own() -> None:
    said = [
        {"type": "tool_result", "tool_use_id": "1", "content": "42"},
        {"type": "tool_result", "tool_use_id": "2", "content": [text("no "), text("way")], "is_error": True},
        {"type": "tool_result", "tool_use_id": "3"},
        text("And"),
        text("?"),
    ]
    assert turns("user", said) == [
        ChatMessage(role="tool", content="42", tool_call_id="1"),
        ChatMessage(role="tool", content="Error: no way", tool_call_id="2"),
        ChatMessage(role="tool", content="", tool_call_id="3"),
        ChatMessage(role="user", content="And?"),
    ]


def test_images_are_found_by_their_places() -> None:
    content = [text("a"), PNG, {"type": "tool_result", "tool_use_id": "1", "content": [PAGE]}]
    sources = list(image_sources([message("user", "x"), message("user", content)]))
    first, second = "messages[1].content[1].source", "messages[1].content[2].content[0].source"
    assert [tuple(source) for source in sources] == [
        (first, "data:image/png;base64,QQ=="),
        (second, "https://example.com/a.png"),
    ]
    assert to_chat_messages(message("user", content), "messages[1]", {first: b"1", second: b"2"}) == [
        ChatMessage(role="user", content=[TextPart(text="a"), ImagePart(data=b"1")]),
        ChatMessage(role="tool", content=[ImagePart(data=b"2")], tool_call_id="1"),
    ]


@pytest.mark.parametrize(
    ("role", "block"),
    [
        ("assistant", PNG),
        ("assistant", {"type": "tool_result", "tool_use_id": "1"}),
        ("user", {"type": "tool_use", "id": "1", "name": "f", "input": {}}),
        ("user", {"type": "thinking", "thinking": "Hm."}),
    ],
)
def test_blocks_of_the_other_role_are_refused_by_their_place(role: str, block: Any) -> None:
    with pytest.raises(HearthError) as caught:
        turns(role, [text("a"), block])
    assert caught.value.param == "messages[0].content[1].type"
