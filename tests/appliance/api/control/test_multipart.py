"""A file in a multipart body, sent over a real socket by a client that may be strange."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from appliance.api.control.multipart import OTHER_FIELDS_BYTES_MAX, open_file_part
from appliance.errors import Code, HearthError

MAX_BYTES = 100_000


async def receive(request: web.Request) -> web.Response:
    try:
        part = await open_file_part(request, "file", MAX_BYTES, idle_timeout_s=1.0)
        content = b"".join([chunk async for chunk in part.chunks])
    except HearthError as error:
        return web.json_response({"code": error.code, "message": error.message, "param": error.param})
    return web.json_response({"filename": part.filename, "size": len(content), "first": content[:1].decode()})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", receive)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def post(url: str, data: object, **headers: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as response:
        answer: dict[str, object] = await response.json()
        return answer


def form(content: bytes, field: str = "file", **options: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field(field, content, filename="train.jsonl", **options)
    return data


@pytest.mark.parametrize("size", [0, 1, 65_536, MAX_BYTES])
async def test_a_file_is_read_whole(url: str, size: int) -> None:
    answer = await post(url, form(b"x" * size))
    assert (answer["filename"], answer["size"]) == ("train.jsonl", size)


async def test_a_file_above_the_limit_is_too_large(url: str) -> None:
    for size in (MAX_BYTES + 1, MAX_BYTES + OTHER_FIELDS_BYTES_MAX + 1):
        answer = await post(url, form(b"x" * size))
        assert (answer["code"], answer["param"]) == (Code.TOO_LARGE, "file")


async def test_other_fields_before_the_file_are_passed_over_within_a_limit(url: str) -> None:
    data = aiohttp.FormData()
    data.add_field("purpose", "fine-tune")
    data.add_field("file", b"{}", filename="a")
    assert (await post(url, data))["size"] == 2
    data = aiohttp.FormData()
    data.add_field("purpose", "x" * (OTHER_FIELDS_BYTES_MAX + 1))
    data.add_field("file", b"{}", filename="a")
    assert (await post(url, data))["code"] == Code.TOO_LARGE


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b"{}", "file: send it as multipart/form-data"),
        ("multipart/form-data", b"{}", "the request body is no readable multipart/form-data"),
        ("multipart/form-data; boundary=x", b"", "the request body is no readable multipart/form-data"),
        ("multipart/form-data; boundary=x", b"no boundary\r\n", "the request body is no readable"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "file: this field is required"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ncut off',
            "the request body is no readable",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Length: 100\r\n\r\nshort\r\n--x--\r\n',
            "the request body is no readable",
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nz\r\n--y--\r\n--x--\r\n",
            "the multipart body holds another one",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            b"e30=\r\n--x--\r\n",
            "file: send it as it is",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 5000, "the request body is no readable"),
    ],
)
async def test_what_is_no_such_body_is_refused(url: str, content_type: str, body: bytes, message: str) -> None:
    answer = await post(url, body, **{"Content-Type": content_type})
    assert answer["code"] == Code.INVALID
    assert str(answer["message"]).startswith(message)


async def test_a_body_that_stops_coming_is_given_up(url: str) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nbegin'
        await asyncio.sleep(3600)

    answer = await post(url, slowly(), **{"Content-Type": "multipart/form-data; boundary=x"})
    assert answer["code"] == Code.TIMEOUT
