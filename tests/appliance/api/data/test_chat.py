"""Messages as clients send them, and the answer's shape."""

import json
from typing import Any

import pytest

from runtime.submission import ChatMessage, ChatPrompt, ToolCall, ToolCallFunction
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.fakes.fake_router import ANSWER, NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS

CHAT = "/inference/v1/chat/completions"


async def ask(api: Api, messages: list[Any], **fields: Any) -> tuple[int, Any]:
    body = {"model": READY_MODEL, "messages": messages, **fields}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        return response.status, await response.json()


async def rendered(api: Api, *messages: Any) -> list[ChatMessage]:
    status, body = await ask(api, list(messages))
    assert status == 200, body
    prompt = api.router.submits[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


async def test_roles_and_contents_reach_the_worker(api: Api) -> None:
    assert await rendered(
        api,
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": {"x": [1]}}},
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ) == [
        ChatMessage(role="system", content="be brief"),
        ChatMessage(role="user", content="ab", name="ann"),
        ChatMessage(
            role="assistant",
            tool_calls=[
                ToolCall(id="1", function=ToolCallFunction(name="f", arguments="{}")),
                ToolCall(id="2", function=ToolCallFunction(name="g", arguments='{"x":[1]}')),
            ],
        ),
        ChatMessage(role="tool", content="42", tool_call_id="1"),
    ]


async def test_thoughts_and_the_older_form_of_calls_reach_the_worker(api: Api) -> None:
    assert await rendered(
        api,
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "function_call": {"name": "f", "arguments": "{}"},
        },
        {"role": "function", "name": "f", "content": "42"},
    ) == [
        ChatMessage(role="user", content="x"),
        ChatMessage(
            role="assistant",
            content="",
            reasoning_content="hm",
            tool_calls=[ToolCall(id="function_1", function=ToolCallFunction(name="f", arguments="{}"))],
        ),
        ChatMessage(role="tool", name="f", content="42", tool_call_id="function_1"),
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages[1].role"),
        ({"role": "nobody", "content": "x"}, "messages[1].role"),
        ({"role": "user", "content": 1}, "messages[1].content"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        (
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]},
            "messages[1].content[1].image_url.url",
        ),
        ({"role": "user", "content": [{"type": "video_url"}]}, "messages[1].content[0].video_url"),
        ({"role": "assistant", "content": "x", "reasoning_content": 1}, "messages[1].reasoning_content"),
        ({"role": "assistant", "content": "x", "function_call": {}}, "messages[1].function_call.name"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages[1].tool_calls[0].function.name"),
        ("x", "messages[1]"),
    ],
)
async def test_bad_message_is_refused_naming_its_place(api: Api, message: Any, param: str) -> None:
    status, body = await ask(api, [{"role": "user", "content": "x"}, message])
    assert status == 400
    assert body["error"]["param"] == param


async def test_number_of_messages_is_limited(api: Api) -> None:
    status, body = await ask(api, [{"role": "user", "content": "x"}] * (api.services.config.limits.messages_max + 1))
    assert status == 400
    assert body["error"]["param"] == "messages"


async def test_whole_answer_has_the_shape_of_the_api(api: Api) -> None:
    body = {"model": READY_MODEL, "messages": [{"role": "user", "content": "x"}], "n": 2}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        answer = await response.json()
        assert response.headers["fireworks-prompt-tokens"] == str(NUM_PROMPT_TOKENS)
        assert response.headers["fireworks-cached-prompt-tokens"] == str(NUM_CACHED_TOKENS)
        assert float(response.headers["fireworks-server-time-to-first-token"]) >= 0
        assert float(response.headers["fireworks-server-processing-time"]) >= 0
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") > 0
    choice = {"message": {"role": "assistant", "content": ANSWER}, "logprobs": None, "finish_reason": "stop"}
    assert answer == {
        "object": "chat.completion",
        "model": READY_MODEL,
        "choices": [{"index": 0, **choice}, {"index": 1, **choice}],
        "usage": {
            "prompt_tokens": NUM_PROMPT_TOKENS,
            "completion_tokens": 2 * len(WORDS),
            "total_tokens": NUM_PROMPT_TOKENS + 2 * len(WORDS),
            "prompt_tokens_details": {"cached_tokens": NUM_CACHED_TOKENS},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_stream_is_events_that_end_with_done(api: Api) -> None:
    body = {"model": READY_MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache"
        text = await response.text()
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == ANSWER
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert [("usage" in chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
