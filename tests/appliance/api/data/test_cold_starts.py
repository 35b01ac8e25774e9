"""A caller who waits for a replica: what it reads meanwhile, and how its request ends when none comes."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anthropic
import fireworks
import openai
import pytest

from appliance.errors import Code, HearthError
from runtime.protocol import Delta, Submit
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.fakes.fake_router import ANSWER, answer_in_words
from tests.waiting import until

FORECAST = "loading 40 % (weights), ready in about 3 s"
SCALING_UP = HearthError(
    Code.UNAVAILABLE,
    "it is scaling up",
    retry_after_s=3.0,
    reason="DEPLOYMENT_SCALING_UP",
    details={"cold_start": {"stage": "weights", "percent": 40, "eta_s": 2.5}},
)
MESSAGES: Any = [{"role": "user", "content": "hi"}]
CHAT, MESSAGE = "/v1/chat/completions", "/v1/messages"


def answer_after_forecasts(api: Api, ending: HearthError | None = None) -> Any:
    async def script(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        await until(lambda: not api.router.forecasts)
        if ending is not None:
            raise ending
        async for deltas in answer_in_words(submit):
            yield deltas

    return script


async def read(api: Api, path: str, **fields: Any) -> tuple[int, str]:
    body = {"model": READY_MODEL, "messages": MESSAGES, "max_tokens": 9, "stream": True, **fields}
    async with api.session.post(path, json=body, headers=api.bearer()) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("path", [CHAT, MESSAGE])
async def test_who_waits_long_reads_comments_and_an_error_is_then_an_event(api: Api, path: str) -> None:
    api.router.forecasts = [FORECAST]
    api.router.script = answer_after_forecasts(api, SCALING_UP)
    status, text = await read(api, path)
    comment, event, rest = text.split("\n\n")
    assert (status, comment, rest) == (200, f": {FORECAST}", "")
    error = json.loads(event.partition("data: ")[2])["error"]
    assert error["cold_start"] == {"stage": "weights", "percent": 40, "eta_s": 2.5}


@pytest.mark.parametrize(("path", "status"), [(CHAT, 503), (MESSAGE, 503)])
async def test_without_a_comment_a_refusal_has_its_status(api: Api, path: str, status: int) -> None:
    api.router.script = answer_after_forecasts(api, SCALING_UP)
    for is_stream in (True, False):
        found, text = await read(api, path, stream=is_stream)
        assert found == status
        error = json.loads(text)["error"]
        assert error["message"] == "it is scaling up"
        assert error["cold_start"]["percent"] == 40


async def test_who_leaves_while_it_reads_comments_leaves_nothing_behind(api: Api) -> None:
    api.router.forecasts = [FORECAST, FORECAST, FORECAST]
    api.router.script = answer_after_forecasts(api)
    body = {"model": READY_MODEL, "messages": MESSAGES, "stream": True}
    async with api.session.post(CHAT, json=body, headers=api.bearer()) as response:
        assert FORECAST in (await response.content.readline()).decode()
        response.close()
    await until(lambda: api.router.num_leased == 0)
    assert api.router.aborted


@pytest.fixture
async def clients(api: Api) -> AsyncIterator[dict[str, Any]]:
    key = api.bearer()["Authorization"].removeprefix("Bearer ")
    options: dict[str, Any] = {"api_key": key, "max_retries": 0}
    async with (
        openai.AsyncOpenAI(base_url=f"{api.url}/v1", **options) as first,
        fireworks.AsyncFireworks(base_url=api.url, account_id="hearth", **options) as second,
        anthropic.AsyncAnthropic(base_url=api.url, **options) as third,
    ):
        yield {"openai": first, "fireworks": second, "anthropic": third}


async def test_clients_skip_the_comments(api: Api, clients: dict[str, Any]) -> None:
    api.router.forecasts = [FORECAST] * 5
    api.router.script = answer_after_forecasts(api)

    async def chat(client: Any) -> str:
        stream = await client.chat.completions.create(model=READY_MODEL, messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def message(client: Any) -> str:
        async with client.messages.stream(model=READY_MODEL, messages=MESSAGES, max_tokens=99) as stream:
            return "".join([text async for text in stream.text_stream])

    said = await asyncio.gather(
        chat(clients["openai"]), chat(clients["fireworks"]), message(clients["anthropic"]), read(api, CHAT)
    )
    assert list(said[:3]) == [ANSWER] * 3
    assert said[3][1].startswith(f": {FORECAST}\n\n")


async def test_openai_reads_how_far_it_is_and_is_told_when_to_come_back(api: Api, clients: dict[str, Any]) -> None:
    api.router.refusal = SCALING_UP
    with pytest.raises(openai.InternalServerError) as raised:
        await clients["openai"].chat.completions.create(model=READY_MODEL, messages=MESSAGES)
    assert raised.value.code == "DEPLOYMENT_SCALING_UP"
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["cold_start"]["percent"] == 40
    assert raised.value.response.headers["Retry-After"] == "3"
    assert "x-should-retry" not in raised.value.response.headers
