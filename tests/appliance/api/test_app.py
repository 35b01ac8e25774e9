"""What holds for every route: paths and aliases, hosts, bodies, request ids, error bodies, counting."""

import asyncio
import re
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from yarl import URL

from appliance.api.app import ROUTES, build_app, register
from appliance.api.codec import decode_body, json_response
from appliance.api.routing import Permission, Route
from appliance.api.server import HttpServer
from appliance.domain import Role
from appliance.errors import Code, HearthError
from appliance.live_config import LiveConfig
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.sockets import hang_up
from tests.waiting import until

CHAT = "/inference/v1/chat/completions"
BODY: dict[str, Any] = {"model": READY_MODEL, "messages": [{"role": "user", "content": "hi"}]}
PATIENCE_S = 20.0


async def raw_exchange(api: Api, sent: bytes) -> bytes:
    """What comes back for these bytes, until the server closes."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read(-1)
    await hang_up(writer)
    return answer


@pytest.mark.parametrize("prefix", ["/inference/v1", "/v1", "/inference/v1/v1"])
async def test_data_plane_answers_below_every_base_url(api: Api, prefix: str) -> None:
    async with api.session.post(f"{prefix}/chat/completions", json=BODY, headers=api.bearer()) as response:
        assert response.status == 200
    async with api.session.get(f"{prefix}/models", headers=api.bearer()) as response:
        assert response.status == 200


@pytest.mark.parametrize("prefix", ["", "/inference", "/inference/v1"])
async def test_control_plane_answers_below_every_base_url(api: Api, prefix: str) -> None:
    async with api.session.get(f"{prefix}/v1/accounts/fireworks/models/tiny", headers=api.bearer()) as response:
        assert response.status == 200
        assert (await response.json())["name"] == READY_MODEL


async def test_full_name_may_be_percent_encoded_into_one_segment(api: Api) -> None:
    encoded = READY_MODEL.replace("/", "%2F")
    for path in (f"/v1/accounts/fireworks/models/{encoded}", f"/inference/v1/models/{encoded}"):
        url = URL(api.url + path, encoded=True)
        async with api.session.get(url, headers=api.bearer()) as response:
            assert response.status == 200, path


async def test_custom_verb_is_a_route_of_its_own(api: Api) -> None:
    path = "/v1/accounts/hearth/deployments/asleep-deployment"
    async with api.session.patch(f"{path}:scale", json={"replicaCount": 0}, headers=api.bearer()) as response:
        assert response.status == 200
    async with api.session.patch(f"{path}:unheard", json={}, headers=api.bearer()) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "path",
    ["/nothing", "//v1/models", "/v1/../metrics", "/V1/models", "/v1/models.", "/metrics;x", "/v1/models%00", "/v1/"],
)
async def test_unknown_path_is_not_found_in_the_openai_dialect(api: Api, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = await raw_exchange(api, request.encode())
    assert b" 404 " in answer.split(b"\r\n")[0]
    body = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == "NOT_FOUND"
    assert body["request_id"]


async def test_unknown_path_of_the_control_plane_is_not_found_in_its_dialect(api: Api) -> None:
    async with api.session.get("/v1/accounts/hearth/nothing", headers=api.bearer()) as response:
        assert response.status == 404
        assert (await response.json())["code"] == 5


async def test_head_is_answered_as_get_without_the_body(api: Api) -> None:
    for path in ("/health", "/docs", "/v1/accounts/hearth/models", "/inference/v1/models"):
        async with (
            api.session.get(path, headers=api.bearer()) as got,
            api.session.head(path, headers=api.bearer()) as response,
        ):
            assert (response.status, await response.read()) == (200, b"")
            assert response.headers["Content-Type"] == got.headers["Content-Type"]
            if "Content-Encoding" not in got.headers:
                assert response.headers["Content-Length"] == got.headers["Content-Length"]
    async with api.session.head("/v1/accounts/hearth/models") as response:
        assert response.status == 401


async def test_no_other_origin_is_told_that_it_may_ask(api: Api) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    async with api.session.options("/v1/accounts/hearth/models", headers=headers) as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


NAMED = [route for route in ROUTES if re.match(r"/v1/accounts/\{account_id\}/\w+/\{\w+_id\}", route.path)]


@pytest.mark.parametrize("route", NAMED, ids=lambda route: f"{route.method} {route.path}")
async def test_a_full_name_is_understood_wherever_an_id_is(api: Api, route: Route) -> None:
    """The same answer to both, whatever it is."""
    path = route.path.replace("{account_id}", "hearth")
    collection = path.split("/")[4]
    answers = []
    for name in ("something", f"accounts%2Fhearth%2F{collection}%2Fsomething"):
        asked = re.sub(r"\{[^}]*\}", "1", re.sub(r"\{[^}]*\}", name, path, count=1))
        async with api.session.request(
            route.method, URL(asked, encoded=True), headers=api.bearer(Role.ADMIN), data=b"{}"
        ) as response:
            text = (await response.text()).replace(f"accounts/hearth/{collection}/something", "something")
            answers.append((response.status, re.sub(r"[0-9a-f]{24}", "id", text)))
    assert answers[0] == answers[1]
    assert answers[0][0] not in (405, 500)


async def test_an_id_that_nothing_can_have_is_not_found(api: Api) -> None:
    for segment in ("x" * 64, "Poet", "1st", "-x"):
        async with api.session.get(f"/v1/accounts/hearth/models/{segment}", headers=api.bearer()) as response:
            assert response.status == 404
            assert (await response.json())["message"].startswith("model_id: ")


async def test_a_path_with_a_line_break_has_its_dialect_too(api: Api) -> None:
    path = URL("/v1/accounts/hearth/models/a%0Ab", encoded=True)
    async with api.session.get(path, headers=api.bearer()) as response:
        assert (response.status, (await response.json())["code"]) == (404, 5)


async def test_wrong_method_is_named_with_the_right_ones(api: Api) -> None:
    async with api.session.get(CHAT, headers=api.bearer()) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert (await response.json())["error"]["code"] == "METHOD_NOT_ALLOWED"
    async with api.session.put("/v1/accounts/hearth/models", headers=api.bearer()) as response:
        assert response.status == 405
        assert (await response.json())["code"] == 3


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("LOCALHOST:1234", True),
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("192.168.1.7", True),
        ("evil.test", False),
        ("127.0.0.1.evil.test", False),
        ("127.0.0.1/?", False),
        ("localhost@evil.test", False),
        ("localhost#", False),
        ("", False),
    ],
)
async def test_host_header_must_be_ours(api: Api, host: str, is_ours: bool) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    status = (await raw_exchange(api, request.encode())).split(b" ")[1]
    assert status == (b"200" if is_ours else b"403")


async def test_two_host_headers_are_refused(api: Api) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await raw_exchange(api, request)).split(b" ")[1] in (b"400", b"403")


async def test_configured_names_are_our_hosts_too(api: Api) -> None:
    server = msgspec.structs.replace(
        api.services.config.server, allowed_hosts=["gpu.lan"], public_url="https://hearth.example:444/x"
    )
    config = msgspec.structs.replace(api.services.config, server=server)
    other = HttpServer(build_app(api.services._replace(live=LiveConfig(config))), server)
    url = await other.start()
    async with aiohttp.ClientSession() as session:
        for host, status in {"gpu.lan": 200, "hearth.example": 200, "evil.test": 403}.items():
            async with session.get(f"{url}/healthz", headers={"Host": host}) as response:
                assert response.status == status, host
    await other.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
async def test_compressed_bodies_are_refused_unread(api: Api, encoding: str) -> None:
    headers = {**api.bearer(), "Content-Encoding": encoding}
    async with api.session.post(CHAT, data=b"\x1f\x8b not gzip", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "content-encoding"


async def test_declared_length_beyond_the_limit_is_refused_before_the_body_is_read(api: Api) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {api.bearer()['Authorization']}\r\n"
        "Content-Length: 99999999999\r\nConnection: close\r\n\r\n"
    )
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 413 " in await reader.readline()
    await hang_up(writer)


async def with_limits(api: Api, **limits: float) -> tuple[HttpServer, str]:
    """Another server of the same services."""
    server = msgspec.structs.replace(api.services.config.server, **limits)
    config = msgspec.structs.replace(api.services.config, server=server)
    http = HttpServer(build_app(api.services._replace(live=LiveConfig(config))), server)
    return http, await http.start()


async def test_endless_body_is_refused_at_the_limit(api: Api) -> None:
    async def pieces() -> Any:
        for _ in range(1000):
            yield b" " * 1024

    server, url = await with_limits(api, max_body_bytes=10_000)
    async with api.session.post(url + CHAT, data=pieces(), headers=api.bearer()) as response:
        assert response.status == 413
    await server.close(drain_s=0.0)


async def test_slow_body_is_refused_at_its_deadline(api: Api) -> None:
    server, url = await with_limits(api, body_timeout_s=0.3)
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    authorization = api.bearer()["Authorization"]
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + b"{")
    answer = asyncio.create_task(reader.readline())
    while not answer.done():
        writer.write(b" ")
        await asyncio.wait({answer}, timeout=0.05)
    assert b" 408 " in answer.result()
    await hang_up(writer)
    await server.close(drain_s=0.0)


async def test_client_that_leaves_amid_its_body_is_forgotten(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    authorization = api.bearer()["Authorization"]
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    await hang_up(writer)
    await until(lambda: b'status="499"' in api.services.node.metrics.render())
    assert not caplog.records


@pytest.mark.parametrize(("sent", "is_echoed"), [("a.B-c_9", True), ("x" * 129, False), ("a b", False), ("", False)])
async def test_request_id_of_the_client_is_echoed_only_when_it_is_harmless(
    api: Api, sent: str, is_echoed: bool
) -> None:
    async with api.session.get("/nothing", headers={"x-request-id": sent}) as response:
        echoed, own = response.headers["x-request-id"], (await response.json())["request_id"]
    assert (echoed == sent) is is_echoed
    assert own != sent
    assert re.fullmatch("[0-9a-f]{24}", own)


async def test_same_request_id_on_many_requests_mixes_nothing(api: Api) -> None:
    async def ask() -> str:
        headers = {**api.bearer(), "x-request-id": "same"}
        async with api.session.post(CHAT, json=BODY, headers=headers) as response:
            return str((await response.json())["id"])

    assert len(set(await asyncio.gather(*(ask() for _ in range(20))))) == 20


def test_route_without_a_permission_cannot_be_registered() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise AssertionError("unreachable")

    nothing: Any = None
    with pytest.raises(TypeError, match="permission"):
        register(web.Application(), Route("GET", "/x", handler, nothing))


def test_no_two_rows_of_the_table_say_the_same() -> None:
    rows = [(route.method, re.sub(r"\{[^}]*\}", "{}", route.path)) for route in ROUTES]
    assert len(rows) == len(set(rows))


class Named(msgspec.Struct):
    name: str


async def decode_named(request: web.Request) -> web.StreamResponse:
    return json_response(await decode_body(request, Named))


async def fail_with_a_path(request: web.Request) -> web.StreamResponse:
    raise OSError(2, "No such file", "/secret/place")


async def test_every_code_reaches_the_client_and_no_body_tells_too_much(api: Api) -> None:
    def failing(code: Code) -> Route:
        async def fail(request: web.Request) -> web.StreamResponse:
            raise HearthError(code, f"it is {code}")

        return Route("GET", f"/v1/accounts/{code}", fail, Permission.PUBLIC)

    routes = [*(failing(code) for code in Code), Route("GET", "/broken", fail_with_a_path, Permission.PUBLIC)]
    server = HttpServer(build_app(api.services, routes), api.services.config.server)
    url = await server.start()
    async with aiohttp.ClientSession(url) as session:
        for route in routes:
            async with session.get(route.path) as response:
                text = await response.text()
                assert 400 <= response.status < 600
                assert "Traceback" not in text
                assert "/secret" not in text
                assert "site-packages" not in text
    await server.close()


async def test_empty_body_counts_as_an_empty_object(api: Api) -> None:
    route = Route("POST", "/named", decode_named, Permission.PUBLIC, Named)
    server = HttpServer(build_app(api.services, [route]), api.services.config.server)
    url = await server.start()
    async with aiohttp.ClientSession(url) as session:
        async with session.post("/named") as response:
            assert (await response.json())["error"]["param"] == "name"
        async with session.post("/named", data=b'{"name":"x"}') as response:
            assert await response.json() == {"name": "x"}
    await server.close()


async def test_requests_are_counted_by_route_not_by_path(api: Api) -> None:
    for path in ("/nothing/1", "/nothing/2", "/v1/models/one", "/v1/models/two"):
        async with api.session.get(path, headers=api.bearer(Role.USER)) as response:
            assert response.status == 404
    text = api.services.node.metrics.render().decode()
    assert 'hearth_http_requests_total{route="unknown",status="404"} 2.0' in text
    assert 'hearth_http_requests_total{route="/inference/v1/models/{model:.+}",status="404"} 2.0' in text
