"""Tools in, calls out: what reaches the worker, and the shapes of the answers."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from runtime.protocol import Delta, Submit, ToolCallDelta, Usage
from runtime.submission import ChatPrompt, Tool, ToolChoice
from tests.appliance.api.conftest import READY_MODEL, Api

CHAT = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "It.", "parameters": SCHEMA, "strict": True}
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": WEATHER}, {"function": {"name": "add"}}]


NO_OBJECT: dict[str, Any] = {"function": {"name": "s", "parameters": {"type": "string"}}}
UNENFORCEABLE: dict[str, Any] = {
    "function": {"name": "s", "parameters": {"type": "object", "propertyNames": {"minLength": 3}}, "strict": True}
}


async def ask(api: Api, **fields: Any) -> tuple[int, Any]:
    body = {"model": READY_MODEL, "messages": [{"role": "user", "content": "x"}], **fields}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        return response.status, await response.json()


async def prompt(api: Api, **fields: Any) -> ChatPrompt:
    status, body = await ask(api, **fields)
    assert status == 200, body
    found = api.router.submits[-1].prompt
    assert isinstance(found, ChatPrompt)
    return found


async def calling(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    """A thought, a word, two calls."""
    usage = Usage(num_prompt_tokens=7, num_cached_tokens=0, num_completion_tokens=9, num_reasoning_tokens=2)
    pieces: list[dict[str, Any]] = [
        {"reasoning": "Hm"},
        {"reasoning": ".", "text": "So"},
        {
            "tool_calls": [
                ToolCallDelta(index=0, id="call_0", name="weather"),
                ToolCallDelta(index=0, arguments='{"city"'),
            ]
        },
        {"tool_calls": [ToolCallDelta(index=0, arguments=': "Ulm"}')]},
        {"tool_calls": [ToolCallDelta(index=1, id="call_1", name="add", arguments="{}")]},
        {"finish_reason": "tool_calls", "usage": usage},
    ]
    for piece in pieces:
        yield [Delta(request_id=submit.request_id, **piece)]


async def test_tools_reach_the_worker(api: Api) -> None:
    tools = [Tool(name="weather", description="It.", parameters=SCHEMA, is_strict=True), Tool(name="add")]
    assert (await prompt(api, tools=TOOLS)).tools == tools
    functions = [tool["function"] for tool in TOOLS]
    assert (await prompt(api, functions=functions)).tools == tools


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": None, "parallel_tool_calls": None}, ToolChoice()),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ToolChoice(is_parallel=False)),
        ({"tool_choice": "none"}, ToolChoice(mode="none")),
        ({"tool_choice": "any"}, ToolChoice(mode="required")),
        ({"tool_choice": "required"}, ToolChoice(mode="required")),
        ({"tool_choice": {"type": "function"}}, ToolChoice(mode="required")),
        ({"tool_choice": {"type": "function", "function": {"name": ""}}}, ToolChoice(mode="required")),
        (
            {"tool_choice": {"type": "function", "function": {"name": "add"}}},
            ToolChoice(mode="required", name="add", is_parallel=False),
        ),
        (
            {"tool_choice": {"type": "function", "name": "add"}},
            ToolChoice(mode="required", name="add", is_parallel=False),
        ),
        ({"function_call": "none"}, ToolChoice(mode="none")),
        ({"function_call": {"name": "add"}}, ToolChoice(mode="required", name="add", is_parallel=False)),
    ],
)
async def test_every_form_of_the_choice(api: Api, fields: dict[str, Any], expected: ToolChoice) -> None:
    assert (await prompt(api, tools=TOOLS, **fields)).tool_choice == expected


async def test_of_functions_in_the_older_form_one_is_called_at_most(api: Api) -> None:
    assert (await prompt(api, functions=[WEATHER])).tool_choice == ToolChoice(is_parallel=False)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search", "function": WEATHER}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "ab\n"}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "x" * 65}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "ü"}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2]"),
        ({"tools": TOOLS * 100}, "tools"),
        ({"tools": 1}, "tools"),
        ({"tools": TOOLS, "functions": [WEATHER]}, "functions"),
        ({"functions": [{"name": "?"}]}, "functions[0].name"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "sub"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "web"}}, "tool_choice.type"),
        ({"tools": TOOLS, "tool_choice": "auto", "function_call": "auto"}, "function_call"),
        ({"tools": TOOLS, "function_call": {"name": ""}}, "function_call.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": "any"}, "tool_choice"),
        ({"function_call": {"name": "add"}}, "function_call"),
        ({"tools": TOOLS, "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tools": [NO_OBJECT], "tool_choice": "any"}, "tools[0].function.parameters"),
        ({"functions": [NO_OBJECT["function"]], "function_call": {"name": "s"}}, "functions[0].parameters"),
        ({"tools": [UNENFORCEABLE], "tool_choice": "auto"}, "tools[0].function.parameters"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(api: Api, fields: dict[str, Any], param: str) -> None:
    status, body = await ask(api, **fields)
    assert (status, body["error"]["param"]) == (400, param)


async def test_schemas_that_no_call_is_held_to_may_say_anything(api: Api) -> None:
    assert (await prompt(api, tools=[NO_OBJECT])).tools[0].parameters == {"type": "string"}
    assert await prompt(api, tools=[UNENFORCEABLE], tool_choice="none")


async def test_what_of_a_forced_call_cannot_be_enforced_is_named_in_a_header(api: Api) -> None:
    loose = {"function": {**UNENFORCEABLE["function"], "strict": False}}
    body = {
        "model": READY_MODEL,
        "messages": [{"role": "user", "content": "x"}],
        "tools": [loose],
        "tool_choice": "any",
    }
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        assert response.status == 200
        named = response.headers["hearth-unenforced-constructs"]
    assert named == "/tools/0/function/parameters/propertyNames"


async def test_a_whole_answer_holds_thought_text_and_calls(api: Api) -> None:
    api.router.script = calling
    _, answer = await ask(api, tools=TOOLS)
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "So",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "index": 0,
                "id": "call_0",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
            },
            {"index": 1, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}},
        ],
    }


async def test_the_content_is_null_where_there_are_only_calls(api: Api) -> None:
    async def only_a_call(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        async for [delta] in calling(submit):
            if not delta.reasoning:
                yield [delta]

    api.router.script = only_a_call
    _, answer = await ask(api, tools=TOOLS)
    assert answer["choices"][0]["message"]["content"] is None


async def chunks(api: Api, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": READY_MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True, **fields}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        events = (await response.text()).split("\n\n")
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events if "chunk" in event]


async def test_a_stream_brings_thought_text_and_calls_in_pieces_with_their_index(api: Api) -> None:
    api.router.script = calling
    found = await chunks(api, tools=TOOLS)
    assert [choice["finish_reason"] for choice in found] == [None] * (len(found) - 1) + ["tool_calls"]
    deltas = [choice["delta"] for choice in found]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert "".join(delta.get("content", "") for delta in deltas) == "So"
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    assert [
        (piece["index"], piece["id"], piece["type"], piece["function"]["name"]) for piece in pieces if "id" in piece
    ] == [
        (0, "call_0", "function", "weather"),
        (1, "call_1", "function", "add"),
    ]
    for index, arguments in ((0, '{"city": "Ulm"}'), (1, "{}")):
        assert "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == index) == arguments


async def test_the_older_form_is_answered_in_the_older_form(api: Api) -> None:
    api.router.script = calling
    _, answer = await ask(api, functions=[WEATHER])
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "Ulm"}'}
    assert "tool_calls" not in choice["message"]
    found = await chunks(api, functions=[WEATHER])
    assert found[-1]["finish_reason"] == "function_call"
    calls = [choice["delta"]["function_call"] for choice in found if "function_call" in choice["delta"]]
    assert calls[0]["name"] == "weather"
    assert json.loads("".join(call["arguments"] for call in calls)) == {"city": "Ulm"}
