"""Whole answers, through the real API: what is in the body and the headers, and for whom."""

import json
from typing import Any

import pytest

from tests.appliance.api.conftest import DEFAULT_TEMPERATURE, READY_MODEL, Api
from tests.fakes.fake_router import ANSWER, NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS
from tests.fakes.low_level import made_up_prompt

PROMPT = made_up_prompt(NUM_PROMPT_TOKENS)
TOKEN_IDS = list(range(len(WORDS)))


async def ask(api: Api, *, is_chat: bool = True, **fields: Any) -> tuple[Any, dict[str, str]]:
    said = {"messages": [{"role": "user", "content": "hi"}]} if is_chat else {"prompt": "hi"}
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    async with api.session.post(path, json={"model": READY_MODEL, **said, **fields}, headers=api.bearer()) as response:
        assert response.status == 200, await response.text()
        return await response.json(), {name.lower(): value for name, value in response.headers.items()}


async def test_plain_answer_has_no_more_than_was_asked_for(api: Api) -> None:
    body, _ = await ask(api)
    assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
    (choice,) = body["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": ANSWER},
        "logprobs": None,
        "finish_reason": "stop",
    }


async def test_headers_tell_times_and_counts(api: Api) -> None:
    _, headers = await ask(api, prediction={"type": "content", "content": "abcd"})
    assert headers["fireworks-prompt-tokens"] == str(NUM_PROMPT_TOKENS)
    assert headers["fireworks-cached-prompt-tokens"] == str(NUM_CACHED_TOKENS)
    assert headers["fireworks-deployment"] == "accounts/fireworks/deployments/tiny-deployment"
    assert headers["fireworks-speculation-prompt-tokens"] == "4"
    assert json.loads(headers["fireworks-sampling-options"])["temperature"] == DEFAULT_TEMPERATURE
    for name in ("server-time-to-first-token", "server-processing-time", "prefill-duration", "generation-duration"):
        assert float(headers[f"fireworks-{name}"]) >= 0


async def test_figures_are_in_the_body_for_who_asks(api: Api) -> None:
    body, headers = await ask(api, perf_metrics_in_response=True)
    metrics = body["perf_metrics"]
    assert {f"fireworks-{name}" for name in metrics} <= set(headers)
    assert metrics["prompt-tokens"] == NUM_PROMPT_TOKENS


async def test_tokens_of_a_chat_are_beside_its_choices(api: Api) -> None:
    body, _ = await ask(api, return_token_ids=True, n=2)
    assert body["prompt_token_ids"] == PROMPT.token_ids
    assert [choice["token_ids"] for choice in body["choices"]] == [TOKEN_IDS] * 2
    assert not any("prompt_token_ids" in choice for choice in body["choices"])


async def test_tokens_of_several_prompts_are_in_their_choices(api: Api) -> None:
    body, _ = await ask(api, is_chat=False, prompt=["a", "b"], return_token_ids=True, n=2)
    assert [choice["prompt_token_ids"] for choice in body["choices"]] == [PROMPT.token_ids] * 4
    assert "prompt_token_ids" not in body


async def test_raw_output_is_what_the_model_saw_and_said(api: Api) -> None:
    body, _ = await ask(api, raw_output=True)
    assert body["choices"][0]["raw_output"] == {
        "prompt_fragments": [PROMPT.text],
        "prompt_token_ids": PROMPT.token_ids,
        "completion": ANSWER,
        "completion_token_ids": TOKEN_IDS,
    }


@pytest.mark.parametrize("is_chat", [True, False])
async def test_echo_leads_the_text_and_its_logprobs(api: Api, is_chat: bool) -> None:
    body, _ = await ask(api, is_chat=is_chat, echo=True, logprobs=1, raw_output=True)
    choice = body["choices"][0]
    text = choice["message"]["content"] if is_chat else choice["text"]
    assert text == PROMPT.text + ANSWER
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == text
    assert logprobs["token_logprobs"][:2] == [None, -1.0]
    assert logprobs["top_logprobs"][:2] == [None, {"w0": -1.0}]
    assert logprobs["text_offset"] == [0, *(text.index(token) for token in logprobs["tokens"][1:])]
    raw = choice["raw_output"]
    assert raw["completion"] == ANSWER
    assert [entry["token"] for entry in raw["completion_logprobs"]["content"]] == WORDS


async def test_echo_last_is_the_end_of_the_prompt(api: Api) -> None:
    for fields in ({"echo_last": 2}, {"echo": True, "echo_last": 2}):
        body, _ = await ask(api, is_chat=False, **fields)
        assert body["choices"][0]["text"] == "p5 p6 " + ANSWER
    body, _ = await ask(api, is_chat=False, echo=True, echo_last=0)
    assert body["choices"][0]["text"] == ANSWER


async def test_service_tier_is_answered_with_the_only_one(api: Api) -> None:
    body, _ = await ask(api, service_tier="flex")
    assert body["service_tier"] == "default"
