"""Bodies in, bodies out: strict JSON into Structs, values into JSON, and server-sent events.

Every refusal names the field as the client spells it. Holds no field of any particular route, and decides no
status: it raises `HearthError` and leaves the answer to `errors.py`.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
from aiohttp import web

from appliance.api.errors import dialect_of, error_event, explain
from appliance.api.routing import request_id, services
from appliance.errors import Code, HearthError

StructT = TypeVar("StructT", bound=msgspec.Struct)

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""For every integer a client may send: larger ones fail in SQLite and in frames."""

SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back
}
SSE_DONE = b"data: [DONE]\n\n"

_IGNORED_NAMES_MAX = 16
_NAME_LENGTH_MAX = 64
_PATH_LENGTH_MAX = 256
_AT_PATH = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`(?P<path>[^`]*)`)?", re.S)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")

_encoder = msgspec.json.Encoder()


async def read_body(request: web.Request) -> bytes:
    """The whole body, within the limits of size and time."""
    settings = services(request).config.server
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            async for chunk in receive_chunks(request, settings.max_body_bytes, settings.body_timeout_s):
                body += chunk
    except TimeoutError as error:
        raise _body_too_slow() from error
    return bytes(body)


async def receive_chunks(request: web.Request, max_bytes: int, idle_timeout_s: float) -> AsyncIterator[bytes]:
    """Pieces of a body as they arrive; a declared length beyond the limit is refused before anything is read."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise _body_too_large(max_bytes)
    received = 0
    while True:
        try:
            async with asyncio.timeout(idle_timeout_s):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise _body_too_slow() from error
        except (web.RequestPayloadError, web.PayloadAccessError) as error:
            raise HearthError(Code.INVALID, "the request body is not readable") from error
        if not chunk:
            return
        received += len(chunk)
        if received > max_bytes:
            raise _body_too_large(max_bytes)
        yield chunk


async def decode_body(request: web.Request, kind: type[StructT]) -> StructT:
    """The body as a Struct; an empty body counts as `{}`. Fields that `kind` does not have are ignored."""
    return decode_json(await read_body(request) or b"{}", kind)


def decode_json(body: bytes, kind: type[StructT]) -> StructT:
    """Raises `invalid` with `param` for anything but strict UTF-8 JSON of the right shape."""
    try:
        body.decode()  # the decoder does not look into strings that it skips
        value: StructT = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise name_the_field(str(error)) from error
    except UnicodeDecodeError as error:
        raise HearthError(Code.INVALID, f"the request body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise HearthError(Code.INVALID, "the request body is nested too deeply") from error
    except msgspec.DecodeError as error:
        if name := _field_that_is_no_number(body):
            raise HearthError(Code.INVALID, f"{name}: must be a finite number", name) from error
        raise HearthError(Code.INVALID, f"the request body is not valid JSON: {error}") from error
    return value


def ignored_fields(body: bytes, kind: type[msgspec.Struct]) -> str:
    """Names in a decodable body that `kind` does not have, fit for a header; empty when there are none."""
    known = set(kind.__struct_encode_fields__)
    return list_names([name for name in _names.decode(body) if name not in known])


def list_names(names: Sequence[str]) -> str:
    """Of a client's own, fit for a header."""
    return ", ".join(quote(name[:_NAME_LENGTH_MAX], safe="") for name in names[:_IGNORED_NAMES_MAX])


def json_response(value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """200 with a Struct, or anything made of Structs, as JSON."""
    return web.Response(body=_encoder.encode(value), content_type="application/json", headers=headers)


async def stream_events(
    request: web.Request,
    events: AsyncGenerator[bytes, None],
    headers: Mapping[str, str] | None = None,
    end: bytes = SSE_DONE,
    forecast: Callable[[], str] = str,
) -> web.StreamResponse:
    """Send events as they come. Nothing is sent before the first, so that a refusal still has its status.

    Except for a caller who waits and for whom there is a `forecast`: it comes as comments, which clients skip. From
    the first byte on an error is an event of its own, and the stream ends after it.
    """
    response = web.StreamResponse(headers={**SSE_HEADERS, **(headers or {})})
    async with aclosing(events):
        try:
            first = await _first_event(request, events, response, forecast)
            if not response.prepared:
                await response.prepare(request)
            await response.write(first)
            async for event in events:
                await response.write(event)
            await response.write(end)
        except (Exception, asyncio.CancelledError) as error:
            if not response.prepared:
                raise
            told = error_event(explain(request, error), request_id(request), dialect_of(request.path))
            await response.write(told)
        return response


async def _first_event(
    request: web.Request, events: AsyncGenerator[bytes, None], response: web.StreamResponse, forecast: Callable[[], str]
) -> bytes:
    """Waits for it, and meanwhile writes a comment now and then while there is something to say."""
    interval_s = services(request).config.server.forecast_interval_s
    arriving = asyncio.ensure_future(anext(events))
    try:
        while not (await asyncio.wait({arriving}, timeout=interval_s))[0]:
            if text := forecast():
                if not response.prepared:
                    await response.prepare(request)
                await response.write(f": {text}\n\n".encode())
        return arriving.result()
    finally:
        arriving.cancel()
        await asyncio.gather(arriving, return_exceptions=True)


@lru_cache(maxsize=256)
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_names = msgspec.json.Decoder(dict[str, msgspec.Raw])


def name_the_field(message: str) -> HearthError:
    """From msgspec's "Expected `int`, got `str` - at `$.messages[0].n`" to a sentence that begins with the field."""
    match = _AT_PATH.fullmatch(message)
    assert match is not None
    what, path = match["what"], (match["path"] or "$").removeprefix("$").removeprefix(".")
    if missing := _MISSING.fullmatch(what):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return HearthError(Code.INVALID, f"{path}: this field is required", path)
    what = what[:1].lower() + what[1:].replace("`", "")
    return HearthError(Code.INVALID, f"{path}: {what}" if path else f"the request body: {what}", path or None)


def _field_that_is_no_number(body: bytes) -> str | None:
    """NaN and Infinity are no JSON, but clients' encoders write them: the path of the first one."""
    try:
        value = json.loads(body, parse_constant=_NoNumber)
    except (ValueError, RecursionError):
        return None
    unseen: list[tuple[str, object]] = [("", value)]
    while unseen:
        path, value = unseen.pop()
        match value:
            case _NoNumber():
                return path[:_PATH_LENGTH_MAX] or None
            case dict():
                unseen += [(f"{path}.{name}" if path else name, item) for name, item in value.items()]
            case list():
                unseen += [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return None


class _NoNumber(str):
    """One of JavaScript's constants."""


def _body_too_large(max_bytes: int) -> HearthError:
    return HearthError(Code.TOO_LARGE, f"the request body exceeds {max_bytes} bytes")


def _body_too_slow() -> HearthError:
    return HearthError(Code.TIMEOUT, "the request body did not arrive in time")
