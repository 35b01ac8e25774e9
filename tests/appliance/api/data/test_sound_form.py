"""A sound file in a multipart body, sent over a real socket by a client that may be strange."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from appliance.api.data.forms import PARTS_MAX
from appliance.api.data.sound_form import FIELD_BYTES_MAX, FIELDS_BYTES_MAX, read_sound_form
from appliance.errors import Code, HearthError
from appliance.services.recordings import Recording

BYTES_MAX = 3_000_000
KNOWN = ["model", "language", "prompt", "g"]
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}
FILE_HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async def receive(request: web.Request) -> web.Response:
        with Recording(tmp_path, BYTES_MAX) as recording:
            try:
                form = await read_sound_form(request, recording, KNOWN, BYTES_MAX, idle_timeout_s=0.5)
            except HearthError as error:
                return web.json_response({"code": error.code, "message": error.message, "param": error.param})
            return web.json_response({"size": recording.num_bytes, "fields": form.fields})

    app = web.Application()
    app.router.add_post("/", receive)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def post(url: str, data: object, headers: dict[str, str] | None = None) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as response:
        answer: dict[str, object] = await response.json()
        return answer


def form(*parts: tuple[str, str | bytes]) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts:
        if isinstance(value, bytes):
            data.add_field(name, io.BytesIO(value), filename="a.wav")
        else:
            data.add_field(name, value)
    return data


async def test_parts_come_in_any_order(url: str) -> None:
    fields = ("model", "m"), ("language", "en")
    expected = {"size": 2_000_000, "fields": dict(fields)}
    sound = ("file", bytes(2_000_000))
    assert await post(url, form(sound, *fields)) == expected
    assert await post(url, form(fields[0], sound, fields[1])) == expected


async def test_the_file_may_come_as_a_field_of_text(url: str) -> None:
    data = aiohttp.FormData()
    data.add_field("model", "m", content_type="text/plain")
    data.add_field("file", "https://sounds.test/x.mp3")
    assert await post(url, data) == {"size": 25, "fields": {"model": "m"}}


async def test_a_list_is_joined_and_anything_else_is_given_once(url: str) -> None:
    parts = ("g[]", "word"), ("g[]", "segment"), ("file", b"x")
    assert (await post(url, form(*parts)))["fields"] == {"g": "word,segment"}
    parts = ("g[type]", "auto"), ("g[threshold]", "0.5"), ("file", b"x")
    assert (await post(url, form(*parts)))["fields"] == {"g": "auto,0.5"}
    answer = await post(url, form(("g", "word"), ("g", "segment"), ("file", b"x")))
    assert (answer["message"], answer["param"]) == ("g: given more than once", "g")


async def test_fields_that_are_not_known_are_kept_by_name_only(url: str) -> None:
    parts = ("x" * 1000, "value"), ("x" * 1000, "more"), ("", "nameless"), ("file", b"x")
    assert (await post(url, form(*parts)))["fields"] == {"x" * 64: "m", "": "n"}


@pytest.mark.parametrize(
    ("parts", "code", "message"),
    [
        ([("model", "m")], Code.INVALID, "file: this field is required"),
        ([("file", b"")], Code.INVALID, "file: it is empty"),
        ([("file", b"a"), ("file", b"b")], Code.INVALID, "file: given more than once"),
        ([("file", bytes(BYTES_MAX + 1))], Code.TOO_LARGE, "file: a sound file has at most"),
        ([("file", bytes(BYTES_MAX + FIELDS_BYTES_MAX + 1))], Code.TOO_LARGE, "file: a sound file has at most"),
        ([("prompt", "x" * (FIELD_BYTES_MAX + 1)), ("file", b"a")], Code.TOO_LARGE, "prompt: larger than"),
        (
            [*((f"p{i}", "x" * (FIELDS_BYTES_MAX // 4)) for i in range(4)), ("prompt", "x"), ("file", b"a")],
            Code.TOO_LARGE,
            "prompt: larger than",
        ),
        ([(f"p{i}", "x") for i in range(PARTS_MAX)], Code.INVALID, "the multipart body has more than"),
        ([("x" * 1000, "x" * (FIELD_BYTES_MAX + 1))], Code.TOO_LARGE, "a field that is not known here: larger than"),
    ],
)
async def test_limits_and_what_is_missing(
    url: str, parts: list[tuple[str, str | bytes]], code: Code, message: str
) -> None:
    answer = await post(url, form(*parts))
    assert answer["code"] == code
    assert str(answer["message"]).startswith(message)


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({"Content-Type": "application/json"}, b"{}", "file: send it as multipart/form-data"),
        ({"Content-Type": "multipart/form-data"}, b"{}", "the request body is no readable multipart/form-data"),
        (BOUNDARY, b"", "the request body is no readable multipart/form-data"),
        (BOUNDARY, FILE_HEAD + b"\r\ncut off", "the request body is no readable multipart/form-data"),
        (BOUNDARY, FILE_HEAD + b"Content-Length: 9\r\n\r\nab\r\n--x--\r\n", "the request body is no readable"),
        (BOUNDARY, FILE_HEAD + b"Content-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--x--\r\n", "file: send it as it is"),
        (
            BOUNDARY,
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--x--\r\n',
            "prompt: not UTF-8 (byte 0)",
        ),
        (
            BOUNDARY,
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
            "the multipart body holds another one",
        ),
    ],
)
async def test_a_body_that_is_no_such_form_is_refused(
    url: str, headers: dict[str, str], body: bytes, message: str
) -> None:
    answer = await post(url, body, headers)
    assert answer["code"] == Code.INVALID
    assert str(answer["message"]).startswith(message)


async def test_a_file_that_stops_coming_is_not_waited_for(url: str) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield FILE_HEAD + b"\r\nsome"
        await asyncio.Event().wait()

    assert (await post(url, stalling(), BOUNDARY))["code"] == Code.TIMEOUT
