"""What happens to a stream when something goes wrong: errors, clients that leave or stall, the end of the daemon."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import msgspec
import pytest

from appliance.api.app import build_app
from appliance.api.server import HttpServer
from appliance.errors import Code, HearthError
from runtime.protocol import Delta, Submit
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.sockets import hang_up
from tests.fakes.fake_router import ANSWER, WORDS, answer_in_words, word_delta
from tests.waiting import until

CHAT = "/inference/v1/chat/completions"
PATIENCE_S = 20.0


def body(**fields: Any) -> dict[str, Any]:
    return {"model": READY_MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}


async def until_idle(api: Api) -> None:
    """Leases given back and the gauge at zero."""
    idle = b"hearth_generations_in_flight 0.0"
    await until(lambda: not api.router.num_leased and idle in api.services.node.metrics.render())


async def speak_then_wait(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    yield [word_delta(submit, 0, 0, WORDS[0], is_last=False)]
    await asyncio.Event().wait()


async def wait_silently(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    await asyncio.Event().wait()
    yield []


async def babble(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    while True:
        yield [Delta(request_id=submit.request_id, text="x" * 4096)]
        await asyncio.sleep(0)


def failing_after_a_word(error: Exception) -> Any:
    async def script(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        yield [word_delta(submit, 0, 0, WORDS[0], is_last=False)]
        raise error

    return script


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HearthError(Code.UNAVAILABLE, "the worker was lost", reason="WORKER_LOST"), "WORKER_LOST"),
        (HearthError(Code.INTERNAL, "it broke"), "INTERNAL"),
        (ValueError("/secret/path"), "INTERNAL"),
    ],
)
async def test_error_after_the_first_token_is_the_last_event(
    api: Api, error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.router.script = failing_after_a_word(error)
    async with api.session.post(CHAT, json=body(), headers=api.bearer()) as response:
        assert response.status == 200
        text = await response.text()
    *_, last, rest = text.split("\n\n")
    assert rest == ""
    event = json.loads(last.removeprefix("data: "))
    assert event["error"]["code"] == code
    assert event["request_id"]
    assert "[DONE]" not in text
    assert "/secret" not in text
    assert ("/secret/path" in caplog.text) is isinstance(error, ValueError)
    await until_idle(api)


async def test_error_of_one_prompt_ends_all_prompts_of_the_request(api: Api) -> None:
    async def script(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        if submit.request_id.endswith("-1"):
            raise HearthError(Code.INVALID, "prompt is too long", "prompt")
        await asyncio.Event().wait()
        yield []

    api.router.script = script
    sent = {"model": READY_MODEL, "prompt": ["a", "b", "c"]}
    async with api.session.post("/v1/completions", json=sent, headers=api.bearer()) as response:
        assert response.status == 400
        assert "prompt is too long" in await response.text()
    await until_idle(api)
    assert len(api.router.aborted) == 3


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("script", [wait_silently, speak_then_wait])
async def test_work_is_aborted_when_its_client_leaves(api: Api, script: Any, is_stream: bool) -> None:
    api.router.script = script
    async with aiohttp.ClientSession(api.url) as session:
        asking = asyncio.create_task(session.post(CHAT, json=body(stream=is_stream), headers=api.bearer()))
        await until(lambda: api.router.submits)
        if is_stream and script is speak_then_wait:
            response = await asyncio.wait_for(asking, PATIENCE_S)
            await asyncio.wait_for(response.content.readline(), PATIENCE_S)
            response.close()
        asking.cancel()
        await asyncio.wait({asking})
    await until_idle(api)
    assert api.router.aborted == [api.router.submits[0].request_id]
    assert b'outcome="aborted"' in api.services.node.metrics.render()


async def test_client_that_takes_nothing_loses_its_stream_and_frees_the_replica(api: Api) -> None:
    settings = msgspec.structs.replace(api.services.config.server, write_stall_timeout_s=0.3)
    server = HttpServer(build_app(api.services), settings)
    host, port = (await server.start()).removeprefix("http://").split(":")
    api.router.script = babble
    payload = json.dumps(body()).encode()
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {api.bearer()['Authorization']}\r\n"
    writer.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
    await until(lambda: api.router.aborted)
    await until_idle(api)
    await hang_up(writer)
    await server.close(drain_s=0.0)


async def test_stream_that_outlives_the_drain_ends_with_an_error_event(api: Api) -> None:
    server = HttpServer(build_app(api.services), api.services.config.server)
    url = await server.start()
    api.router.script = speak_then_wait
    async with aiohttp.ClientSession() as session:
        async with session.post(url + CHAT, json=body(), headers=api.bearer()) as response:
            await response.content.readline()
            closing = asyncio.create_task(server.close(drain_s=0.1))
            text = (await asyncio.wait_for(response.content.read(), PATIENCE_S)).decode()
        assert json.loads(text.split("data: ")[-1])["error"]["message"] == "the server is shutting down"
        await asyncio.wait_for(closing, PATIENCE_S)
    await until_idle(api)


async def test_request_that_outlives_the_drain_is_answered(api: Api) -> None:
    server = HttpServer(build_app(api.services), api.services.config.server)
    url = await server.start()
    api.router.script = wait_silently
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.post(url + CHAT, json=body(stream=False), headers=api.bearer()))
        await until(lambda: api.router.submits)
        await server.close(drain_s=0.1)
        async with await asyncio.wait_for(asking, PATIENCE_S) as response:
            assert response.status == 503
    await until_idle(api)


async def test_many_streams_of_which_a_third_leave_end_as_if_alone(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async def slowly(submit: Submit) -> AsyncGenerator[list[Delta], None]:
        async for deltas in answer_in_words(submit):
            yield deltas
            await asyncio.sleep(0.01)

    api.router.script = slowly
    chance = random.Random(7)

    async def ask(is_leaving: bool) -> None:
        async with api.session.post(CHAT, json=body(n=2), headers=api.bearer()) as response:
            assert response.status == 200
            if is_leaving:
                for _ in range(chance.randrange(6)):
                    await response.content.readline()
                response.close()
                return
            events = (await response.text()).split("\n\n")[:-2]
        chunks = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
        for index in (0, 1):
            said = [chunk["delta"].get("content", "") for chunk in chunks if chunk["index"] == index]
            assert "".join(said) == ANSWER

    async with asyncio.timeout(60):
        await asyncio.gather(*(ask(is_leaving=i % 3 == 0) for i in range(60)))
    await until_idle(api)
    assert not caplog.records


async def test_requests_beyond_the_cap_are_refused_and_the_cap_is_of_those_in_flight(api: Api) -> None:
    api.router.script = speak_then_wait
    cap = api.services.config.limits.requests_in_flight_max
    streams = [await api.session.post(CHAT, json=body(), headers=api.bearer()) for _ in range(cap)]
    async with api.session.post(CHAT, json=body(), headers=api.bearer()) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
    for stream in streams:
        stream.close()
    await until_idle(api)
    api.router.script = answer_in_words
    async with api.session.post(CHAT, json=body(), headers=api.bearer()) as response:
        assert response.status == 200
