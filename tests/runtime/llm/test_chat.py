from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tool_parsers.mistral import MistralParser
from runtime.llm.chat import conversation_of, droppable, without
from runtime.submission import (
    ChatMessage,
    ChatPrompt,
    ImagePart,
    Reasoning,
    TextPart,
    Tool,
    ToolCall,
    ToolCallFunction,
    ToolChoice,
)


def same(call_id: str) -> str:
    return call_id


def messages_of(*messages: ChatMessage) -> list[dict[str, Any]]:
    prompt = ChatPrompt(messages=list(messages))
    return conversation_of(prompt, prompt.messages, same).messages


def test_messages_become_what_templates_know() -> None:
    call = ToolCall(id="1", function=ToolCallFunction(name="f", arguments='{"x": [1]}'))
    broken = ToolCall(id="2", function=ToolCallFunction(name="f", arguments="no JSON"))
    assert messages_of(
        ChatMessage(role="user", content="hi", name="ann"),
        ChatMessage(role="user", content=[TextPart(text="what?"), ImagePart(data=b"x")]),
        ChatMessage(role="assistant", reasoning_content="hm", tool_calls=[call, broken]),
        ChatMessage(role="tool", content="42", tool_call_id="1"),
    ) == [
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": [1]}}},
                {"id": "2", "type": "function", "function": {"name": "f", "arguments": "no JSON"}},
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ]


def test_ids_are_as_the_dialect_wants_them_in_calls_and_results_alike() -> None:
    call = ToolCall(id="call_0123456789", function=ToolCallFunction(name="f", arguments="{}"))
    messages = [ChatMessage(role="assistant", tool_calls=[call]), ChatMessage(role="tool", tool_call_id=call.id)]
    called, answered = conversation_of(ChatPrompt(messages=messages), messages, MistralParser.call_id).messages
    assert called["tool_calls"][0]["id"] == answered["tool_call_id"]
    assert len(answered["tool_call_id"]) == 9


def test_tools_are_shown_as_openai_writes_them_unless_none_may_be_called() -> None:
    tools = [Tool(name="f", description="It.", parameters={"type": "object"}, is_strict=True), Tool(name="g")]
    prompt = ChatPrompt(messages=[], tools=tools)
    assert conversation_of(prompt, [], same).tools == [
        {"type": "function", "function": {"name": "f", "description": "It.", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
    ]
    none = ChatPrompt(messages=[], tools=tools, tool_choice=ToolChoice(mode="none"))
    assert conversation_of(none, [], same).tools == []


@pytest.mark.parametrize(
    ("reasoning", "settings_"),
    [
        (Reasoning(), {}),
        (Reasoning(effort="none"), {"enable_thinking": False, "thinking": False}),
        (Reasoning(effort="low"), {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}),
        (Reasoning(budget_tokens=9), {"enable_thinking": True, "thinking": True, "thinking_budget": 9}),
        (Reasoning(history="preserved"), {"preserve_thinking": True, "clear_thinking": False}),
        (Reasoning(history="disabled"), {"preserve_thinking": False, "clear_thinking": True}),
    ],
)
def test_reasoning_is_set_under_the_names_of_templates(reasoning: Reasoning, settings_: dict[str, Any]) -> None:
    assert conversation_of(ChatPrompt(messages=[], reasoning=reasoning), [], same).settings == settings_


ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def talk(roles: str) -> list[ChatMessage]:
    return [ChatMessage(role=ROLES[role], content=str(i)) for i, role in enumerate(roles)]  # type: ignore[arg-type]


def dropping(roles: str) -> list[str]:
    """What remains after each further drop, as letters."""
    messages = talk(roles)
    dropped = droppable(messages)
    return [
        "".join(message.role[0] for message in without(messages, dropped[:count])) for count in range(len(dropped) + 1)
    ]


@pytest.mark.parametrize(
    ("roles", "remaining"),
    [
        ("u", ["u"]),
        ("su", ["su"]),
        ("suau", ["suau", "su"]),
        ("suauau", ["suauau", "suau", "su"]),
        ("auau", ["auau", "uau", "u"]),
        ("uattau", ["uattau", "u"]),
        ("suauatat", ["suauatat", "suatat", "suat"]),
        ("uatuatata", ["uatuatata", "uatata", "uata", "ua"]),
        ("susau", ["susau", "ssu"]),
        ("s", ["s"]),
        ("", [""]),
        ("aa", ["aa", "a"]),
    ],
)
def test_whole_turns_are_dropped_oldest_first(roles: str, remaining: list[str]) -> None:
    assert dropping(roles) == remaining


@settings(max_examples=200, deadline=None)
@given(roles=st.text(alphabet="suat", max_size=14))
def test_system_messages_the_last_user_message_and_the_last_word_are_never_dropped(roles: str) -> None:
    messages = talk(roles)
    dropped = droppable(messages)
    positions = [position for gone in dropped for position in gone]
    assert len(positions) == len(set(positions))
    left = without(messages, dropped)
    assert [message for message in messages if message.role == "system"] == [
        message for message in left if message.role == "system"
    ]
    for kept in ("user", ""):
        last = [message for message in messages if message.role == kept or not kept]
        assert not last or last[-1] in left


@settings(max_examples=200, deadline=None)
@given(roles=st.text(alphabet="suat", max_size=14))
def test_results_are_dropped_with_their_call(roles: str) -> None:
    messages = [message for message in talk(roles) if message.role != "system"]
    dropped = droppable(messages)
    for count in range(len(dropped) + 1):
        left = [message.content for message in without(messages, dropped[:count])]
        for call, result in pairwise(messages):
            if result.role == "tool" and call.role in ("assistant", "tool"):
                assert (call.content in left) == (result.content in left)
