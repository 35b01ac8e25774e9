"""What /openapi.json says of answers is what the renderers write: a member that is not described is refused here."""

import json
from typing import Any

import msgspec
import pytest

from appliance.api.data import answer_schemas
from tests.appliance.api.conftest import READY_MODEL, Api

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
FORMS: list[tuple[str, dict[str, Any], type[msgspec.Struct], type[msgspec.Struct]]] = [
    ("/v1/chat/completions", CHAT, answer_schemas.ChatCompletion, answer_schemas.ChatCompletionChunk),
    ("/v1/completions", {"prompt": "hi"}, answer_schemas.Completion, answer_schemas.CompletionChunk),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"n": 2, "service_tier": "auto"},
    {"logprobs": True, "top_logprobs": 2},
    {"logprobs": 2},
    {"return_token_ids": True},
    {"raw_output": True, "perf_metrics_in_response": True},
    {"stream_options": {"include_usage": True}},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0])
@pytest.mark.parametrize("options", OPTIONS, ids=json.dumps)
async def test_completions_are_as_described(api: Api, form: Any, options: dict[str, Any]) -> None:
    path, own, whole, chunk = form
    body = {"model": READY_MODEL, **own, **options}
    async with api.session.post(path, json=body, headers=api.bearer()) as response:
        assert response.status == 200
        msgspec.json.decode(await response.read(), type=whole)
    async with api.session.post(path, json={**body, "stream": True}, headers=api.bearer()) as response:
        lines = (await response.text()).splitlines()
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    for event in events[:-1]:
        msgspec.json.decode(event, type=chunk)


@pytest.mark.parametrize("options", [{}, {"stop_sequences": ["x"]}])
async def test_messages_are_as_described(api: Api, options: dict[str, Any]) -> None:
    body = {"model": READY_MODEL, "max_tokens": 8, **CHAT, **options}
    async with api.session.post("/v1/messages", json=body, headers=api.bearer()) as response:
        assert response.status == 200
        msgspec.json.decode(await response.read(), type=answer_schemas.MessageAnswer)
    async with api.session.post("/v1/messages", json={**body, "stream": True}, headers=api.bearer()) as response:
        lines = (await response.text()).splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert [msgspec.json.decode(event, type=answer_schemas.MessageEvent).type for event in data] == names


async def test_a_system_block_says_that_it_is_text(api: Api) -> None:
    body = {"model": READY_MODEL, "max_tokens": 8, **CHAT}
    for block, expected in (({"type": "text", "text": "Be brief."}, 200), ({"text": "Be brief."}, 400)):
        async with api.session.post("/v1/messages", json={**body, "system": [block]}, headers=api.bearer()) as response:
            assert response.status == expected
