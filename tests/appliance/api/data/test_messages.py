"""Anthropic's form of a chat: what of it reaches the worker, its answers and its refusals."""

import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from appliance.errors import Code, HearthError
from runtime.protocol import Delta, Submit
from runtime.submission import ChatMessage, ChatPrompt, JsonConstraint, Reasoning, Tool, ToolChoice
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.fakes.fake_router import ANSWER, NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS, word_delta

MESSAGES = "/v1/messages"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[Any] = [
    {"name": "weather", "description": "It.", "input_schema": SCHEMA, "strict": True},
    {"name": "add", "input_schema": {"type": "object"}, "type": "custom"},
]
NOTE = {"type": "text", "text": "x"}


async def post(api: Api, **fields: Any) -> tuple[int, Any, Any]:
    body = {"model": READY_MODEL, "max_tokens": 2000, "messages": [{"role": "user", "content": "x"}], **fields}
    async with api.session.post(MESSAGES, json=body, headers=api.bearer()) as response:
        return response.status, await response.json(), response.headers


async def submitted(api: Api, **fields: Any) -> Submit:
    status, body, _ = await post(api, **fields)
    assert status == 200, body
    return api.router.submits[-1]


async def prompt(api: Api, **fields: Any) -> ChatPrompt:
    found = (await submitted(api, **fields)).prompt
    assert isinstance(found, ChatPrompt)
    return found


@pytest.mark.parametrize("prefix", ["/inference/v1", "/v1", "/inference/v1/v1"])
async def test_whole_message_has_the_shape_of_the_api(api: Api, prefix: str) -> None:
    body = {"model": READY_MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    async with api.session.post(f"{prefix}/messages", json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert response.headers["fireworks-prompt-tokens"] == str(NUM_PROMPT_TOKENS)
    assert answer.pop("id").startswith("msg_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": READY_MODEL,
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": NUM_PROMPT_TOKENS - NUM_CACHED_TOKENS,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": NUM_CACHED_TOKENS,
            "output_tokens": len(WORDS),
        },
    }


async def test_stream_ends_with_its_own_event(api: Api) -> None:
    body = {"model": READY_MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with api.session.post(MESSAGES, json=body, headers=api.bearer()) as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()
    names = [line.removeprefix("event: ") for line in text.split("\n") if line.startswith("event: ")]
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert names == ["message_start", *block, "message_delta", "message_stop"]
    assert '"stop_reason":"max_tokens"' in text
    assert "[DONE]" not in text


async def test_error_after_the_first_word_is_an_event(api: Api) -> None:
    async def script(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        yield [word_delta(submit, 0, 0, WORDS[0], is_last=False)]
        raise HearthError(Code.UNAVAILABLE, "the worker was lost")

    api.router.script = script
    body = {"model": READY_MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with api.session.post(MESSAGES, json=body, headers=api.bearer()) as response:
        assert response.status == 200
        *_, last, rest = (await response.text()).split("\n\n")
    name, data = last.split("\n")
    assert (name, rest) == ("event: error", "")
    event = json.loads(data.removeprefix("data: "))
    assert event["error"] == {"type": "overloaded_error", "message": "the worker was lost"}


async def test_conversation_reaches_the_worker(api: Api) -> None:
    messages = [{"role": "user", "content": [NOTE]}, {"role": "assistant", "content": "y"}]
    found = await prompt(api, system=[{**NOTE, "cache_control": {"type": "ephemeral"}}], messages=messages)
    assert found == ChatPrompt(
        messages=[
            ChatMessage(role="system", content="x"),
            ChatMessage(role="user", content="x"),
            ChatMessage(role="assistant", content="y"),
        ]
    )


async def test_sampling_fields_reach_the_worker(api: Api) -> None:
    fields = {"temperature": 0.3, "top_p": 0.8, "top_k": 500, "max_tokens": 5}
    submit = await submitted(api, **fields, metadata={"user_id": "ann"})
    said = submit.sampling
    assert (said.temperature, said.top_p, said.top_k, submit.max_tokens) == (0.3, 0.8, 500, 5)
    assert submit.num_logprobs is None
    assert api.router.leases[-1].affinity_key == "ann"


async def test_stop_sequence_is_named(api: Api) -> None:
    status, answer, _ = await post(api, stop_sequences=["never", "fake."])
    assert status == 200
    assert api.router.submits[-1].stop == ["never", "fake."]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "fake.")
    _, answer, _ = await post(api, stop_sequences=["never"])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)


async def test_tools_reach_the_worker(api: Api) -> None:
    assert (await prompt(api, tools=TOOLS)).tools == [
        Tool(name="weather", description="It.", parameters=SCHEMA, is_strict=True),
        Tool(name="add", parameters={"type": "object"}),
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(is_parallel=False)),
        ({"type": "any"}, ToolChoice(mode="required")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(mode="required", is_parallel=False)),
        ({"type": "tool", "name": "add"}, ToolChoice(mode="required", name="add", is_parallel=False)),
        ({"type": "none"}, ToolChoice(mode="none")),
    ],
)
async def test_tool_choice_reaches_the_worker(api: Api, choice: Any, expected: ToolChoice) -> None:
    assert (await prompt(api, tools=TOOLS, tool_choice=choice)).tool_choice == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Reasoning()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, Reasoning(effort="none")),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Reasoning(effort="medium", budget_tokens=1024)),
        ({"output_config": {"effort": "max"}}, Reasoning(effort="high")),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1999}, "output_config": {"effort": "low"}},
            Reasoning(effort="low", budget_tokens=1999),
        ),
    ],
)
async def test_thinking_reaches_the_worker(api: Api, fields: Any, expected: Reasoning) -> None:
    assert (await prompt(api, **fields)).reasoning == expected


async def test_output_format_holds_the_answer_to_its_schema(api: Api) -> None:
    submit = await submitted(api, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert isinstance(submit.constraint, JsonConstraint)


async def test_what_has_no_effect_is_told(api: Api) -> None:
    tools = [{"name": "s", "input_schema": {"type": "object", "propertyNames": {"minLength": 3}}}]
    status, _, headers = await post(api, container="c", tools=tools, tool_choice={"type": "any"})
    assert status == 200
    assert headers["hearth-ignored-fields"] == "container"
    assert headers["hearth-unenforced-constructs"].startswith("/tools/0/input_schema")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [NOTE, {"type": "document"}]}]}, "messages[0].content[1].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]},
            "messages[0].content[0]",
        ),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"temperature": 1.1}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"stop_sequences": ["x"] * 5}, "stop_sequences"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive"}}, "thinking.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": TOOLS * 2}, "tools[2]"),
        ({"tools": [{"name": "f", "input_schema": {"type": 1}, "strict": True}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": ""}}, "tool_choice.name"),
        ({"output_config": {"format": {"type": "json_schema", "schema": 1}}}, "output_config.format.schema"),
        ({"raw_output": True}, "raw_output"),
    ],
)
async def test_refusal_names_the_place_in_anthropics_dialect(api: Api, fields: Any, param: str) -> None:
    status, body, _ = await post(api, **fields)
    assert (status, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert body["error"]["message"].lstrip("`").startswith(param)
    assert body["request_id"]


async def test_number_of_messages_is_limited(api: Api) -> None:
    too_many = api.services.config.limits.messages_max + 1
    status, body, _ = await post(api, messages=[{"role": "user", "content": "x"}] * too_many)
    assert (status, body["error"]["message"].partition(":")[0]) == (400, "messages")


@pytest.mark.parametrize("data", ["!", base64.b64encode(b"nothing").decode()])
async def test_bad_image_is_refused_by_its_place(api: Api, data: str) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    status, body, _ = await post(api, messages=[{"role": "user", "content": [NOTE, image]}])
    assert status == 400
    assert body["error"]["message"].startswith("messages[0].content[1].source: ")


async def test_who_may_not_ask_is_told_in_anthropics_dialect(api: Api) -> None:
    async with api.session.post(MESSAGES, json={}) as response:
        assert (response.status, (await response.json())["error"]["type"]) == (401, "authentication_error")
    status, body, _ = await post(api, model="accounts/fireworks/models/nobody")
    assert (status, body["error"]["type"]) == (404, "not_found_error")
