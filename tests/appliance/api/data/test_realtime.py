"""A websocket that takes sound and gives text: how it opens, what is said on it, how it ends."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType
from msgspec.structs import replace

from appliance.config import Config
from appliance.domain import Role
from appliance.errors import Code, HearthError
from runtime.message import Used
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask
from runtime.tasks.speech import Heard, Listen, Listening
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.speech_forms import ENGLISH_MODEL, LISTENING_MODEL, add_listeners, refusing
from tests.fakes.scripted_live import LANGUAGE, converse
from tests.waiting import until

PATH = "/inference/v1/audio/transcriptions/streaming"
FRAME = bytes(3200)
"""100 ms."""


@pytest.fixture
def config(config: Config) -> Config:
    speech = replace(
        config.speech, live_idle_timeout_s=5.0, live_sound_s_max=20.0, live_ahead_s_max=1.0, live_frame_bytes_max=40_000
    )
    return replace(config, speech=speech)


@pytest.fixture(autouse=True)
async def listeners(api: Api) -> None:
    await add_listeners(api)
    api.router.task_script = converse  # type: ignore[assignment]


async def receive(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    message = await socket.receive(timeout=20)
    assert message.type is WSMsgType.TEXT, message
    decoded: dict[str, Any] = json.loads(message.data)
    return decoded


async def closing_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    message = await socket.receive(timeout=20)
    assert message.type is WSMsgType.CLOSE, message
    return socket.close_code


async def test_each_piece_of_sound_brings_text_and_segments_are_replaced_by_id(api: Api) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        await socket.send_bytes(FRAME)
        first = await receive(socket)
        await socket.send_bytes(FRAME)
        second = await receive(socket)
    assert first == {
        "task": "transcribe",
        "language": LANGUAGE,
        "text": "word0",
        "words": None,
        "segments": [{"id": "0", "text": "word0"}],
    }
    assert second["segments"] == [{"id": "0", "text": "word0 word1"}]


async def test_it_answers_a_trace_a_checkpoint_and_a_reset_in_their_order(api: Api) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        await socket.send_bytes(FRAME)
        await socket.send_json({"event_id": "1", "object": "stt.input.trace", "trace_id": "final"})
        await socket.send_json({"checkpoint_id": "final"})
        await socket.send_json({"event_id": "2", "object": "stt.state.clear", "reset_id": "again"})
        await socket.send_bytes(FRAME)
        answers = [await receive(socket) for _ in range(5)]
    assert answers[1].items() >= {"object": "stt.output.trace", "trace_id": "final"}.items()
    assert answers[2] == {"checkpoint_id": "final"}
    assert answers[3].items() >= {"object": "stt.state.cleared", "reset_id": "again"}.items()
    assert answers[4]["text"] == "word0"


@pytest.mark.parametrize("path", [PATH, "/v1/audio/transcriptions/streaming"])
@pytest.mark.parametrize("form", ["header", "bare header", "query", "query with scheme"])
async def test_the_key_is_taken_in_every_form(api: Api, path: str, form: str) -> None:
    key = api.keys[Role.USER]
    headers = {"header": f"Bearer {key}", "bare header": key}.get(form)
    query = {"query": key, "query with scheme": f"Bearer {key}"}.get(form)
    async with api.session.ws_connect(
        path, headers={"Authorization": headers} if headers else {}, params={"Authorization": query} if query else {}
    ) as socket:
        await socket.send_bytes(FRAME)
        assert (await receive(socket))["text"] == "word0"


async def refused(api: Api, query: dict[str, str], headers: dict[str, str] | None = None) -> int:
    """The status; nothing may have reached a worker."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await api.session.ws_connect(PATH, headers=api.bearer() if headers is None else headers, params=query)
    assert not api.router.tasks
    return refusal.value.status


async def test_without_a_right_key_no_websocket_opens(api: Api) -> None:
    assert await refused(api, {}, headers={}) == 401
    assert await refused(api, {"Authorization": "fw_wrong"}, headers={}) == 401
    assert await refused(api, {"Authorization": api.keys[Role.ADMIN]}) == 401, "two different keys"


async def test_a_key_in_the_query_of_another_route_is_none(api: Api) -> None:
    async with api.session.get("/verifyApiKey", params={"Authorization": api.keys[Role.USER]}) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"model": READY_MODEL}, 400),
        ({"model": "no-such-model"}, 404),
        ({"model": ENGLISH_MODEL, "language": "de"}, 400),
        ({"language": "klingon"}, 400),
        ({"response_format": "srt"}, 400),
        ({"temperature": "hot"}, 400),
        ({"temperature": "2"}, 400),
        ({"timestamp_granularities": "letter"}, 400),
        ({"prompt": "x" * 4097}, 400),
    ],
)
async def test_what_is_wrong_with_the_request_is_told_before_it_opens(
    api: Api, query: dict[str, str], status: int
) -> None:
    assert await refused(api, query) == status


async def test_who_opens_no_websocket_is_told_so(api: Api) -> None:
    async with api.session.get(PATH, headers=api.bearer()) as response:
        assert response.status == 400
        error = (await response.json())["error"]
        assert (error["param"], "websocket" in error["message"]) == ("Upgrade", True)


async def test_the_query_says_how_to_listen(api: Api) -> None:
    query = [
        ("model", LISTENING_MODEL),
        ("language", "en"),
        ("prompt", "Names: Ada"),
        ("temperature", "0,0.4"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities", "word"),
        ("timestamp_granularities", "segment"),
        ("endpointing", "x"),
    ]
    async with api.session.ws_connect(PATH, headers=api.bearer(), params=query) as socket:
        await socket.send_bytes(FRAME)
        answer = await receive(socket)
        assert socket._response.headers["hearth-ignored-fields"] == "endpointing"
    (task,) = api.router.tasks
    assert isinstance(task, Listen)
    assert task.listening == Listening(language="en", prompt="Names: Ada", temperatures=[0.0, 0.4], has_words=True)
    assert answer["words"] == answer["segments"][0]["words"]
    assert answer["words"][0]["is_final"] is False
    assert answer["segments"][0]["end"] == 0.5


async def test_the_model_that_is_set_is_asked_when_none_is_named(api: Api) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        await socket.send_bytes(FRAME)
        await receive(socket)
    assert [lease.deployment.split("/")[-1] for lease in api.router.leases] == ["whisper-v3-deployment"]


async def test_when_the_client_leaves_its_work_is_ended(api: Api) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        await socket.send_bytes(FRAME)
        await receive(socket)
        await socket.close()
        assert socket.close_code == WSCloseCode.OK
    await until(lambda: api.router.num_leased == 0)
    assert len(api.router.aborted) == 1


async def test_when_the_connection_breaks_its_work_is_ended(api: Api) -> None:
    socket = await api.session.ws_connect(PATH, headers=api.bearer())
    await socket.send_bytes(FRAME)
    await receive(socket)
    transport = socket._conn
    assert transport is not None
    transport.close()
    await until(lambda: api.router.num_leased == 0)
    assert len(api.router.aborted) == 1


@pytest.mark.parametrize(
    ("text", "param"), [("nonsense", None), ("{}", "object"), ('{"object": "stt.input.trace"}', "trace_id")]
)
async def test_a_message_that_is_none_ends_the_conversation(api: Api, text: str, param: str | None) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        await socket.send_str(text)
        answer = await receive(socket)
        assert (answer["error"]["type"], answer["error"]["param"]) == ("invalid_request_error", param)
        assert answer["request_id"]
        assert await closing_code(socket) == WSCloseCode.POLICY_VIOLATION
    await until(lambda: api.router.num_leased == 0)


async def test_a_message_that_is_too_large_ends_the_conversation(api: Api) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        await socket.send_bytes(bytes(40_002))
        assert await closing_code(socket) == WSCloseCode.MESSAGE_TOO_BIG
    await until(lambda: api.router.num_leased == 0)


async def test_a_conversation_has_an_end(api: Api) -> None:
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        for _ in range(21):
            await socket.send_bytes(bytes(32_000))
        for _ in range(20):
            assert "text" in await receive(socket)
        answer = await receive(socket)
        assert "20 s" in answer["error"]["message"]
        assert await closing_code(socket) == WSCloseCode.MESSAGE_TOO_BIG


async def test_who_sends_nothing_for_long_is_told_so(api: Api, config: Config) -> None:
    api.services.live.current = replace(config, speech=replace(config.speech, live_idle_timeout_s=0.05))
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        answer = await receive(socket)
        assert answer["error"]["type"] == "timeout_error"
        assert await closing_code(socket) == WSCloseCode.POLICY_VIOLATION
    await until(lambda: api.router.num_leased == 0)


async def test_a_client_that_is_ahead_is_not_read_until_its_sound_was_heard(api: Api) -> None:
    num_received = 0
    may_hear = asyncio.Event()

    async def hear_late(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece], None]:
        nonlocal num_received
        assert follow_ups is not None
        queue: asyncio.Queue[None] = asyncio.Queue()

        async def read() -> None:
            nonlocal num_received
            async for _ in follow_ups:
                num_received += 1
                queue.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            await may_hear.wait()
            while True:
                await queue.get()
                yield [Heard(request_id=task.request_id, segments=[], used=Used(audio_ms=500))]
        finally:
            reading.cancel()

    api.router.task_script = hear_late
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        for _ in range(10):
            await socket.send_bytes(bytes(16_000))
        await until(lambda: num_received == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert num_received == 3, "1 s may be ahead, and the message that goes beyond"
        may_hear.set()
        await until(lambda: num_received == 10)


@pytest.mark.parametrize(
    ("error", "type_", "code"),
    [
        (HearthError(Code.OVERLOADED, "full", retry_after_s=1.0), "error", WSCloseCode.TRY_AGAIN_LATER),
        (HearthError(Code.UNAVAILABLE, "gone", reason="WORKER_LOST"), "error", WSCloseCode.TRY_AGAIN_LATER),
        (HearthError(Code.INTERNAL, "broken"), "internal_server_error", WSCloseCode.INTERNAL_ERROR),
    ],
)
async def test_what_fails_later_is_a_message_before_the_end(
    api: Api, error: HearthError, type_: str, code: WSCloseCode
) -> None:
    api.router.task_script = refusing(error)
    async with api.session.ws_connect(PATH, headers=api.bearer()) as socket:
        answer = await receive(socket)
        assert (answer["error"]["type"], answer["error"]["message"]) == (type_, error.message)
        assert await closing_code(socket) == code
    assert api.router.num_leased == 0
    assert len(api.router.tasks) == 1, "sound that is gone cannot be sent again"
