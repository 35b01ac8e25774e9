"""Where files are fetched from; images stand for all of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address

import pytest
from aiohttp import web

from appliance.config import ImageSettings
from appliance.errors import Code, HearthError
from appliance.services.image_fetch import fetch_image
from appliance.services.media_fetch import REDIRECTS_MAX, Resolve, is_public

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(1000)


class Canary:
    """A server on loopback that notes who comes."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.port = 0
        self.headers: dict[str, str] = {}

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        match request.path.split("/"):
            case [_, "to", *_]:
                return web.Response(status=302, headers={"Location": request.query["location"]})
            case [_, "loop"]:
                return web.Response(status=302, headers={"Location": "/loop"})
            case [_, "missing"]:
                return web.Response(status=404)
            case [_, "zipped"]:
                return web.Response(body=b"\x1f\x8b" + IMAGE, headers={"Content-Encoding": "gzip"})
            case [_, "endless"]:
                return await self._trickle(request, b"x" * 4096, 0.0)
            case [_, "slow"]:
                return await self._trickle(request, b"x", 0.01)
            case _:
                return web.Response(body=IMAGE, content_type="text/html")

    async def _trickle(self, request: web.Request, piece: bytes, pause_s: float) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(piece)
                await asyncio.sleep(pause_s)
        except ConnectionError:
            return response


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    canary = Canary()
    app = web.Application()
    app.router.add_get("/{path:.*}", canary.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    canary.port = runner.addresses[0][1]
    yield canary
    await runner.cleanup()


def leading_to(*addresses: str) -> Resolve:
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return resolve


def allowing(*origins: str, bytes_max: int = 100_000, timeout_s: float = 10.0) -> ImageSettings:
    return ImageSettings(image_origins=list(origins), image_bytes_max=bytes_max, image_fetch_timeout_s=timeout_s)


async def refusal(url: str, settings: ImageSettings, resolve: Resolve | None = None) -> HearthError:
    with pytest.raises(HearthError) as refused:
        await fetch_image(url, settings, "images[0]", resolve or leading_to("127.0.0.1"))
    assert refused.value.param == "images[0]"
    return refused.value


async def test_an_address_that_the_operator_wrote_may_be_a_private_one(canary: Canary) -> None:
    assert await fetch_image(f"{canary.origin}/x.png?y=1", allowing(canary.origin), "images[0]") == IMAGE
    assert canary.paths == ["/x.png?y=1"]


async def test_without_a_listed_origin_nothing_is_fetched_and_the_setting_is_named(canary: Canary) -> None:
    error = await refusal(f"{canary.origin}/x.png", ImageSettings())
    assert "image_origins" in error.message
    assert canary.paths == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x.png",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://0:{port}/",
        "http://127.0.0.1.nip.test:{port}/",
        "http://images.test@127.0.0.1:{port}/",
        "http://images.test\\@127.0.0.1:{port}/",
        "http://images.test:{port}:80/",
        "https://images.test:{port}/",
        "http://images.test.:{port}/",
        "http://user@images.test/",
        "http://images.test:99999/",
        "file:///etc/passwd",
        "ftp://images.test/",
        "gopher://images.test/",
        "//images.test/",
        "images.test/x.png",
        "http://",
        "http://[/",
        "",
    ],
)
async def test_only_listed_origins_are_asked(canary: Canary, url: str) -> None:
    error = await refusal(url.format(port=canary.port), allowing("http://images.test"))
    assert error.code is Code.INVALID
    assert canary.paths == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["fe80::1%eth0"],
        [],
    ],
)
async def test_a_listed_name_must_lead_to_public_addresses_all_of_them(canary: Canary, addresses: list[str]) -> None:
    origin = f"http://images.test:{canary.port}"
    error = await refusal(f"{origin}/x.png", allowing(origin), leading_to(*addresses))
    assert error.code is Code.INVALID
    assert canary.paths == []


async def test_a_name_is_resolved_once_so_that_no_second_answer_counts(canary: Canary) -> None:
    answers = iter([["192.0.2.1", "127.0.0.1"], ["127.0.0.1"]])

    async def rebinding(host: str) -> Sequence[str]:
        return next(answers)

    origin = f"http://images.test:{canary.port}"
    await refusal(f"{origin}/x.png", allowing(origin), rebinding)
    assert next(answers) == ["127.0.0.1"]
    assert canary.paths == []


async def test_each_redirect_is_checked_like_the_first_address(canary: Canary) -> None:
    settings = allowing(canary.origin)
    assert await fetch_image(f"{canary.origin}/to?location=/x.png", settings, "images[0]") == IMAGE
    for location in (f"http://localhost:{canary.port}/secret", f"http://[::1]:{canary.port}/secret", "file:///secret"):
        await refusal(f"{canary.origin}/to?location={location}", settings)
    assert not any("secret" in path and path.startswith("/secret") for path in canary.paths)


async def test_redirects_end(canary: Canary) -> None:
    assert "redirects" in (await refusal(f"{canary.origin}/loop", allowing(canary.origin))).message
    assert len(canary.paths) == REDIRECTS_MAX + 1


async def test_size_and_time_are_limited_while_the_answer_comes(canary: Canary) -> None:
    assert (await refusal(f"{canary.origin}/endless", allowing(canary.origin))).code is Code.TOO_LARGE
    error = await refusal(f"{canary.origin}/slow", allowing(canary.origin, timeout_s=0.3))
    assert error.code is Code.INVALID


async def test_refusals_say_little(canary: Canary) -> None:
    assert "404" in (await refusal(f"{canary.origin}/missing", allowing(canary.origin))).message
    assert "compressed" in (await refusal(f"{canary.origin}/zipped", allowing(canary.origin))).message
    closed = "http://127.0.0.1:1"
    assert (await refusal(f"{closed}/x.png", allowing(closed))).message == "images[0]: the image could not be fetched"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.1.1", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fc00::1", False),
        ("ff02::1", False),
    ],
)
def test_public_addresses(address: str, expected: bool) -> None:
    assert is_public(ip_address(address)) == expected
