"""GET /audio/transcriptions/streaming: a websocket that takes sound as it is spoken and gives text as it is understood.

A client that sends faster than its sound is heard is not read from for a while; what it may send is bounded in size, in
pauses and in all. Once the websocket is open a refusal is a message, after which it is closed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from appliance.api.data.calls import Running, run_call
from appliance.api.data.forms import Form, decode_fields, ignored_form_fields
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, invalid
from appliance.api.data.live_messages import BYTES_PER_S, LiveText, read_sound, read_text, render
from appliance.api.data.speech_fields import GRANULARITIES, temperatures
from appliance.api.errors import Dialect, error_body, explain
from appliance.api.routing import Permission, Route, request_id, services
from appliance.config import SpeechSettings
from appliance.errors import Code, HearthError
from appliance.services.demands import Demand
from appliance.services.prompt_size import PromptSize
from appliance.services.speech import require_listener, to_language
from appliance.services.targets import Target
from runtime.protocol import AnyFollowUp
from runtime.tasks.speech import Listen, Listening

CLOSE_CODES = {
    Code.INVALID: WSCloseCode.POLICY_VIOLATION,
    Code.TIMEOUT: WSCloseCode.POLICY_VIOLATION,
    Code.TOO_LARGE: WSCloseCode.MESSAGE_TOO_BIG,
    Code.RATE_LIMITED: WSCloseCode.TRY_AGAIN_LATER,
    Code.OVERLOADED: WSCloseCode.TRY_AGAIN_LATER,
    Code.UNAVAILABLE: WSCloseCode.TRY_AGAIN_LATER,
    Code.INTERNAL: WSCloseCode.INTERNAL_ERROR,
}
KEY_FIELD = "Authorization"
SINGLE_FIELDS = {"model", "response_format", "language", "prompt", "temperature"}
_LEAVING = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class LiveQuery(msgspec.Struct, kw_only=True):
    model: str | None = None
    response_format: Literal["verbose_json"] = "verbose_json"
    language: str | None = None
    """A code such as `en`; left out: found out."""
    prompt: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """Text that came before."""
    temperature: str | None = None
    """A number from 0 to 1, or several with commas between."""
    timestamp_granularities: str | None = None
    """`word`, `segment`, or both with a comma between, or once for each; left out: text without times."""


async def stream_transcription(request: web.Request) -> web.StreamResponse:
    """Write down what is being said.

    Send sound as binary messages, 16 kHz mono in 16-bit little-endian samples, of 50 to 400 ms each. Text comes back in
    segments; one takes the place of the last one with its id, and words that are final do not change any more. The
    message `{"object": "stt.input.trace", "trace_id": ...}` is answered when everything before it was heard,
    `{"object": "stt.state.clear", "reset_id": ...}` when everything before it was forgotten.
    """
    form = _read_form(request)
    query = decode_fields(form, LiveQuery)
    granularities = _granularities(query)
    settings = services(request).config.speech
    websocket = web.WebSocketResponse(max_msg_size=settings.live_frame_bytes_max, compress=False)
    if not websocket.can_prepare(request):
        raise invalid("Upgrade", "this path is for websockets: send the headers of an upgrade")
    task = Listen(
        request_id=request_id(request),
        listening=Listening(
            language=to_language(query.language),
            prompt=query.prompt or "",
            temperatures=temperatures(query.temperature),
            has_words="word" in granularities,
        ),
    )

    def make_task(target: Target) -> Listen:
        require_listener(target, task.listening.language)
        return task

    conversation = Conversation(websocket, task.request_id, settings)
    running = await run_call(
        request,
        model=query.model or settings.speech_model,
        make_task=make_task,
        demand=Demand(PromptSize(0, 0), audio_ms=int(settings.live_sound_s_max * 1000)),
        follow_ups=conversation.follow_ups,
        has_deadline=False,
        is_repeatable=False,
    )
    websocket.headers.update(running.first_headers())
    if ignored := ignored_form_fields(form, LiveQuery):
        websocket.headers[IGNORED_FIELDS_HEADER] = ignored
    await websocket.prepare(request)
    try:
        await conversation.run(running, granularities)
    except (Exception, asyncio.CancelledError) as error:
        await _refuse(request, websocket, error)
    await websocket.close()
    return websocket


class Conversation:
    """One client's websocket, read by whoever sends its sound to a worker."""

    def __init__(self, websocket: web.WebSocketResponse, request_id: str, settings: SpeechSettings) -> None:
        self._websocket = websocket
        self._request_id = request_id
        self._settings = settings
        self._num_bytes = 0
        self._heard_ms = 0
        self._has_heard = asyncio.Event()
        self._has_left = asyncio.Event()

    async def run(self, running: Running, granularities: frozenset[str]) -> None:
        """Until the client leaves, or something fails."""
        sending = asyncio.create_task(self._send(running, granularities), name="text of a conversation")
        leaving = asyncio.create_task(self._has_left.wait(), name="the end of a conversation")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (sending, leaving):
                each.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def follow_ups(self) -> AsyncIterator[AnyFollowUp]:
        """What the client sends, as far as it may; ends when it leaves. Raises what is wrong with it."""
        while True:
            await self._wait_for_room()
            try:
                async with asyncio.timeout(self._settings.live_idle_timeout_s):
                    message = await self._websocket.receive()
            except TimeoutError as error:
                raise HearthError(Code.TIMEOUT, "nothing was sent for too long") from error
            if message.type in _LEAVING:
                self._has_left.set()
                return
            if message.type is WSMsgType.BINARY:
                self._count(len(message.data))
                yield read_sound(self._request_id, message.data)
            else:
                yield read_text(self._request_id, message.data)

    async def _send(self, running: Running, granularities: frozenset[str]) -> None:
        async with aclosing(running.pieces()) as pieces:
            async for piece in pieces:
                self._heard_ms += piece.used.audio_ms
                self._has_heard.set()
                message = render(piece, granularities)
                if message is not None:
                    await self._websocket.send_str(message.decode())

    async def _wait_for_room(self) -> None:
        while self._num_bytes / BYTES_PER_S - self._heard_ms / 1000 > self._settings.live_ahead_s_max:
            self._has_heard.clear()
            await self._has_heard.wait()

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        longest_s = self._settings.live_sound_s_max
        if self._num_bytes > longest_s * BYTES_PER_S:
            raise HearthError(Code.TOO_LARGE, f"a conversation has at most {longest_s:g} s of sound; open another")


async def _refuse(request: web.Request, websocket: web.WebSocketResponse, error: BaseException) -> None:
    """Say why, and close; raises the error again when nobody listens."""
    told = explain(request, error)
    body = error_body(told, Dialect.OPENAI, request_id(request))
    await websocket.send_str(msgspec.json.encode(body).decode())
    await websocket.close(
        code=CLOSE_CODES.get(told.code, WSCloseCode.POLICY_VIOLATION), message=b"see the last message"
    )


def _read_form(request: web.Request) -> Form:
    """The query, in which a list may be written in several parameters."""
    fields: dict[str, str] = {}
    for parameter, value in request.query.items():
        name = parameter.removesuffix("[]")
        if name in fields and name in SINGLE_FIELDS:
            raise invalid(name, "was given more than once")
        if name != KEY_FIELD:
            fields[name] = f"{fields[name]},{value}" if name in fields else value
    return Form(fields, {})


def _granularities(query: LiveQuery) -> frozenset[str]:
    named = frozenset(word.strip() for word in (query.timestamp_granularities or "").split(",") if word.strip())
    if not named <= frozenset(GRANULARITIES):
        raise invalid("timestamp_granularities", f"must be of {', '.join(GRANULARITIES)}")
    return named


ROUTES = [
    Route(
        "GET",
        "/inference/v1/audio/transcriptions/streaming",
        stream_transcription,
        Permission.INFER,
        query=LiveQuery,
        answer=LiveText,
        is_websocket=True,
    ),
]
