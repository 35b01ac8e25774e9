"""What all routes with a sound file do the same way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from appliance.config import Config
from appliance.errors import Code, HearthError
from appliance.orchestrator.worker_client import WORKER_LOST
from appliance.services.recordings import CHUNK_BYTES
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask
from runtime.tasks.speech import Transcribe
from tests.appliance.api.conftest import Api
from tests.appliance.api.control.test_usage import USAGE, get, window
from tests.appliance.api.data.speech_forms import (
    ALIGNMENTS,
    LISTENING_MODEL,
    SOUND,
    TRANSCRIPTIONS,
    add_listeners,
    post,
    refusal,
    refusing,
)
from tests.fakes.scripted_speech import DURATION_S
from tests.fakes.scripted_tasks import answer_task


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=SOUND)

    app = web.Application()
    app.router.add_get("/x.wav", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
def config(config: Config, origin: str) -> Config:
    speech = replace(
        config.speech, audio_bytes_max=4 * CHUNK_BYTES, audio_origins=[origin], replaced_alignment_models=["tdnn_ffn"]
    )
    return replace(config, speech=speech)


@pytest.fixture(autouse=True)
async def listeners(api: Api) -> None:
    await add_listeners(api)


async def test_a_url_in_the_files_place_is_fetched_where_that_is_allowed(api: Api, origin: str) -> None:
    assert (await post(api, TRANSCRIPTIONS, f"{origin}/x.wav".encode()))[0] == 200
    assert (await post(api, TRANSCRIPTIONS, None, file=f"{origin}/x.wav"))[0] == 200
    for task in api.router.tasks:
        assert isinstance(task, Transcribe)
        assert task.num_bytes == len(SOUND)


async def test_a_url_elsewhere_is_refused_and_so_are_fields_before_anything_is_fetched(api: Api, origin: str) -> None:
    for url in (b"http://127.0.0.1:1/x.wav", b"https://sounds.test/x.wav", b"http://169.254.169.254/"):
        status, param, message = await refusal(api, TRANSCRIPTIONS, url)
        assert (status, param) == (400, "file")
        assert "audio_origins" in message
    missing = f"{origin}/missing.wav".encode()
    assert (await refusal(api, TRANSCRIPTIONS, missing, language="klingon"))[:2] == (400, "language")
    assert (await refusal(api, TRANSCRIPTIONS, missing))[:2] == (400, "file")


async def test_a_large_file_reaches_the_worker_in_chunks(api: Api) -> None:
    assert (await post(api, TRANSCRIPTIONS, SOUND * 300))[0] == 200
    assert (await refusal_of_size(api)) == (413, "file")


async def refusal_of_size(api: Api) -> tuple[int, str]:
    status, body, _ = await post(api, TRANSCRIPTIONS, bytes(4 * CHUNK_BYTES + 1))
    return status, body["error"]["param"]


async def test_a_second_worker_gets_the_file_from_its_beginning(api: Api) -> None:
    async def lose_the_first(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece]]:
        if len(api.router.tasks) == 1:
            assert follow_ups is not None
            await anext(follow_ups)
            raise HearthError(Code.UNAVAILABLE, "lost", reason=WORKER_LOST)
        async for pieces in answer_task(task, follow_ups):
            yield pieces

    api.router.task_script = lose_the_first
    assert (await post(api, TRANSCRIPTIONS, SOUND * 300))[0] == 200
    assert len(api.router.tasks) == 2


async def test_what_the_worker_cannot_read_is_the_clients_fault(api: Api) -> None:
    api.router.task_script = refusing(HearthError(Code.INVALID, "file: no sound that is known", "file"))
    status, body, _ = await post(api, TRANSCRIPTIONS)
    assert (status, body["error"]["message"]) == (400, "file: no sound that is known")


async def test_old_clients_may_name_a_model_that_the_operator_has_replaced(api: Api) -> None:
    status, body, headers = await post(api, ALIGNMENTS, text="Hello", alignment_model="tdnn_ffn")
    assert status == 200, body
    assert headers["hearth-ignored-fields"] == "alignment_model"


async def test_a_key_without_bearer_is_enough(api: Api) -> None:
    key = api.bearer()["Authorization"].removeprefix("Bearer ")
    async with api.session.post(TRANSCRIPTIONS, data={"file": "x"}, headers={"Authorization": key}) as response:
        assert (await response.json())["error"]["param"] == "file"  # urlencoded: the key was not the problem
        assert response.status == 400


async def test_a_client_that_leaves_ends_the_work(api: Api) -> None:
    is_listening, is_left = asyncio.Event(), asyncio.Event()

    async def listen_for_ever(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece]]:
        is_listening.set()
        try:
            await asyncio.Event().wait()
            yield []
        finally:
            is_left.set()

    api.router.task_script = listen_for_ever
    asking = asyncio.create_task(post(api, TRANSCRIPTIONS, SOUND * 300))
    await asyncio.wait_for(is_listening.wait(), 10.0)
    asking.cancel()
    await asyncio.wait_for(is_left.wait(), 10.0)
    assert len(api.router.aborted) == 1


async def test_what_was_heard_is_metered(api: Api) -> None:
    await post(api, TRANSCRIPTIONS)
    _, usage = await get(api, USAGE, window())
    (row,) = usage["serverlessCosts"]
    assert (row["modelName"], row["requestCount"], row["audioInputSeconds"]) == (LISTENING_MODEL, "1", DURATION_S)
