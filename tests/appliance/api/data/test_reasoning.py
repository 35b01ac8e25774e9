from typing import Any

import pytest

from runtime.submission import ChatPrompt, Reasoning
from tests.appliance.api.conftest import READY_MODEL, Api

CHAT = "/v1/chat/completions"


async def ask(api: Api, fields: dict[str, Any]) -> tuple[int, Any]:
    body = {"model": READY_MODEL, "messages": [{"role": "user", "content": "x"}], **fields}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Reasoning()),
        ({"reasoning_effort": None, "thinking": None, "reasoning_history": None}, Reasoning()),
        ({"reasoning_effort": "none"}, Reasoning(effort="none")),
        ({"reasoning_effort": False}, Reasoning(effort="none")),
        ({"reasoning_effort": True}, Reasoning(effort="medium")),
        ({"reasoning_effort": "low"}, Reasoning(effort="low")),
        ({"reasoning_effort": "max"}, Reasoning(effort="high")),
        ({"reasoning_effort": 500}, Reasoning(budget_tokens=500)),
        ({"thinking": {"type": "disabled"}}, Reasoning(effort="none")),
        ({"thinking": {"type": "enabled"}}, Reasoning(effort="medium")),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Reasoning(effort="medium", budget_tokens=1024)),
        ({"reasoning_history": "interleaved"}, Reasoning(history="interleaved")),
    ],
)
async def test_what_is_asked_of_thinking_reaches_the_worker(
    api: Api, fields: dict[str, Any], expected: Reasoning
) -> None:
    status, body = await ask(api, fields)
    assert status == 200, body
    prompt = api.router.submits[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.reasoning == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": 0}, "reasoning_effort"),
        ({"reasoning_effort": -1}, "reasoning_effort"),
        ({"reasoning_effort": 2**31}, "reasoning_effort"),
        ({"reasoning_effort": 1.5}, "reasoning_effort"),
        ({"thinking": {"type": "adaptive"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens"),
        ({"thinking": "enabled"}, "thinking"),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, "thinking"),
        ({"reasoning_history": "all"}, "reasoning_history"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(api: Api, fields: dict[str, Any], param: str) -> None:
    status, body = await ask(api, fields)
    assert (status, body["error"]["param"]) == (400, param)


async def test_a_completion_has_no_turns_to_think_in(api: Api) -> None:
    body = {"model": READY_MODEL, "prompt": "x", "reasoning_effort": "low", "reasoning_history": "preserved"}
    async with api.session.post("/v1/completions", json=body, headers=api.bearer()) as response:
        assert response.status == 200
        assert response.headers["hearth-ignored-fields"] == "reasoning_effort, reasoning_history"
    body["thinking"] = {"type": "disabled"}  # type: ignore[assignment]
    async with api.session.post("/v1/completions", json=body, headers=api.bearer()) as response:
        assert (response.status, (await response.json())["error"]["param"]) == (400, "thinking")
