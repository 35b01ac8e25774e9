"""Forms sent over a real socket, by clients that may be strange."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from appliance.api.data.forms import (
    FIELD_BYTES_MAX,
    PARTS_MAX,
    Form,
    decode_fields,
    ignored_form_fields,
    read_form,
    required_file,
)
from appliance.errors import Code, HearthError

FILE_BYTES_MAX = 100_000


async def receive(request: web.Request) -> web.Response:
    try:
        form = await read_form(request, ("image", "mask"), FILE_BYTES_MAX, idle_timeout_s=1.0)
    except HearthError as error:
        return web.json_response({"code": error.code, "message": error.message, "param": error.param})
    sizes = {name: len(data) for name, data in form.files.items()}
    return web.json_response({"fields": dict(form.fields), "files": sizes})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", receive)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def post(url: str, data: object, **headers: str) -> Any:
    async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as response:
        return await response.json()


def form_of(*parts: tuple[str, str | bytes]) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts:
        if isinstance(value, bytes):
            form.add_field(name, io.BytesIO(value), filename="x")
        else:
            form.add_field(name, value)
    return form


async def test_files_and_fields_come_in_any_order(url: str) -> None:
    parts: list[tuple[str, str | bytes]] = [("prompt", "a fox é"), ("image", b"x" * FILE_BYTES_MAX), ("n", "2")]
    expected = {"fields": {"prompt": "a fox é", "n": "2"}, "files": {"image": FILE_BYTES_MAX}}
    assert await post(url, form_of(*parts)) == expected
    assert await post(url, form_of(*reversed(parts))) == expected
    assert await post(url, form_of(("image[]", b"x"))) == {"fields": {}, "files": {"image": 1}}


@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ([("image", b"x" * (FILE_BYTES_MAX + 1))], Code.TOO_LARGE, "image"),
        ([("prompt", "x" * (FIELD_BYTES_MAX + 1))], Code.TOO_LARGE, "prompt"),
        ([("image", b"x" * 10_000_000)], Code.TOO_LARGE, None),
        ([("image", b"a"), ("image", b"b")], Code.INVALID, "image"),
        ([("image[]", b"a"), ("image[]", b"b")], Code.INVALID, "image"),
        ([("n", "1"), ("n", "2")], Code.INVALID, "n"),
        ([("prompt", b"\xff")], Code.INVALID, "prompt"),
        ([(f"f{index}", "x") for index in range(PARTS_MAX + 1)], Code.INVALID, None),
    ],
)
async def test_more_than_a_form_may_hold_is_refused(url: str, parts: Any, code: Code, param: str | None) -> None:
    answer = await post(url, form_of(*parts))
    assert (answer.get("code"), answer.get("param")) == (code, param)


async def test_what_is_no_form_is_refused(url: str) -> None:
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    for data, headers in (
        (b"{}", {"Content-Type": "application/json"}),
        (b"", {"Content-Type": "multipart/form-data"}),
        (b"nothing of the kind", boundary),
        (b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nbroken off', boundary),
    ):
        assert (await post(url, data, **headers))["code"] == Code.INVALID
    encoded = form_of(("image", b"eA=="))
    with aiohttp.MultipartWriter("form-data") as nested, aiohttp.MultipartWriter("mixed") as inner:
        inner.append("x")
        nested.append(inner)
    assert (await post(url, nested))["code"] == Code.INVALID
    assert (await post(url, encoded))["files"] == {"image": 4}


async def test_a_transfer_encoding_is_refused(url: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert (await post(url, body, **headers))["param"] == "image"


async def test_a_client_that_stops_sending_is_not_waited_for(url: str) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx'
        await asyncio.sleep(30)

    answer = await post(url, stalling(), **{"Content-Type": "multipart/form-data; boundary=b"})
    assert answer["code"] == Code.TIMEOUT


class Fields(msgspec.Struct):
    prompt: str
    scale: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    is_loud: bool | None = None
    count: int | None = None


def decode(**fields: str) -> Fields:
    return decode_fields(Form(fields, {}), Fields)


def test_text_becomes_what_a_field_is_of() -> None:
    fields = decode(prompt="7", scale="0.5", is_loud="true", count="3", stranger="x")
    assert fields == Fields("7", 0.5, True, 3)


def test_an_empty_field_is_left_out() -> None:
    assert decode(prompt="x", scale="", is_loud="", count="") == Fields("x")
    with pytest.raises(HearthError) as caught:
        decode(prompt="")
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", "2"), ("scale", "nan"), ("scale", "inf"), ("is_loud", "maybe"), ("count", "1.5"), ("count", "many")],
)
def test_a_wrong_field_is_named(name: str, value: str) -> None:
    with pytest.raises(HearthError) as caught:
        decode(prompt="x", **{name: value})
    assert (caught.value.code, caught.value.param) == (Code.INVALID, name)


def test_strange_fields_are_told_in_a_form_fit_for_a_header() -> None:
    fields = {"prompt": "x", "a b\r\n": "1", "empty": ""}
    assert ignored_form_fields(Form(fields, {}), Fields) == "a%20b%0D%0A"


def test_a_file_is_there_and_holds_something() -> None:
    assert required_file(Form({}, {"image": b"x"}), "image") == b"x"
    for form in (Form({}, {}), Form({}, {"image": b""})):
        with pytest.raises(HearthError) as caught:
            required_file(form, "image")
        assert caught.value.param == "image"
