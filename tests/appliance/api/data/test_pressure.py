"""What a client is told when there is too much to do: deadlines, full queues, and who shares what with whom."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.config import Config, LimitSettings
from appliance.errors import Code, HearthError
from appliance.services.generation import cache_namespace
from runtime.protocol import Delta, Submit
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.fakes.fake_router import WORDS, word_delta
from tests.waiting import until

CHAT, COMPLETIONS = "/inference/v1/chat/completions", "/inference/v1/completions"
DEADLINE_S = 0.05
NOTHING: list[list[Delta]] = []


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=tmp_path, limits=LimitSettings(request_deadline_s=DEADLINE_S, choices_max=6))


def body(**fields: Any) -> dict[str, Any]:
    return {"model": READY_MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


async def never_begin(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    await asyncio.Event().wait()
    yield []


async def never_end(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    yield [word_delta(submit, 0, 0, WORDS[0], is_last=False)]
    await asyncio.Event().wait()


def refusing(error: HearthError) -> Any:
    async def script(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        for deltas in NOTHING:
            yield deltas
        raise error

    return script


async def post(api: Api, path: str, json: dict[str, Any], **headers: str) -> aiohttp.ClientResponse:
    response = await api.session.post(path, json=json, headers=api.bearer() | headers)
    await response.read()
    return response


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_request_that_has_not_begun_by_its_deadline_is_a_timeout(api: Api, is_stream: bool) -> None:
    api.router.script = never_begin
    response = await post(api, CHAT, body(stream=is_stream))
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["type"]) == (408, "DEADLINE_EXCEEDED", "timeout_error")
    assert api.router.aborted == [submit.request_id for submit in api.router.submits]
    await until(lambda: api.router.num_leased == 0)


async def test_a_stream_that_has_begun_ends_with_the_timeout_as_an_event(api: Api) -> None:
    api.router.script = never_end
    response = await post(api, CHAT, body(stream=True))
    events = (await response.text()).split("\n\n")
    assert response.status == 200
    assert WORDS[0] in events[1]
    assert '"code":"DEADLINE_EXCEEDED"' in events[-2]
    assert api.router.aborted


@pytest.mark.parametrize(("code", "status"), [(Code.RATE_LIMITED, 429), (Code.OVERLOADED, 503)])
async def test_a_full_queue_says_when_to_come_back(api: Api, code: Code, status: int) -> None:
    api.router.script = refusing(HearthError(code, "too many requests are waiting", retry_after_s=6.2))
    response = await post(api, CHAT, body())
    assert (response.status, response.headers["Retry-After"]) == (status, "7")


@pytest.mark.parametrize(("num_prompts", "n", "status"), [(2, 3, 200), (7, 1, 400), (1, 7, 400), (3, 3, 400)])
async def test_choices_of_all_prompts_are_limited_together(api: Api, num_prompts: int, n: int, status: int) -> None:
    response = await post(api, COMPLETIONS, {"model": READY_MODEL, "prompt": ["a"] * num_prompts, "n": n})
    assert response.status == status, await response.text()
    if status == 400:
        assert (await response.json())["error"]["param"] == "n"
        assert not api.router.submits


ISOLATED: list[tuple[dict[str, Any], dict[str, str], str | None]] = [
    ({}, {}, None),
    ({"prompt_cache_isolation_key": "a"}, {}, "a"),
    ({}, {"x-prompt-cache-isolation-key": "a"}, "a"),
    ({"prompt_cache_isolation_key": "a"}, {"x-prompt-cache-isolation-key": "b"}, "a"),
    ({"prompt_cache_key": "s", "user": "u"}, {"x-session-affinity": "s"}, None),
]


@pytest.mark.parametrize(("fields", "headers", "isolation_key"), ISOLATED)
async def test_caches_are_separate_by_account_and_by_isolation_key_only(
    api: Api, fields: dict[str, Any], headers: dict[str, str], isolation_key: str | None
) -> None:
    await post(api, CHAT, body(**fields), **headers)
    (submit,) = api.router.submits
    assert submit.cache_namespace == cache_namespace("hearth", isolation_key)
    assert submit.tenant == "hearth"


@pytest.mark.parametrize("most", [None, 0, 100])
async def test_the_cache_is_used_as_far_as_the_request_allows(api: Api, most: int | None) -> None:
    await post(api, CHAT, body(prompt_cache_max_len=most))
    assert [submit.cache_max_tokens for submit in api.router.submits] == [most]
