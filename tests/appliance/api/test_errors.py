"""The one table of errors, over all codes and dialects."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler

from appliance.api.errors import (
    WIRE,
    Dialect,
    answer_errors,
    dialect_of,
    error_body,
    error_bytes,
    error_event,
    error_headers,
    error_response,
)
from appliance.api.routing import REQUEST_ID
from appliance.errors import Code, HearthError

STATUS = {
    Code.INVALID: (400, 400),
    Code.UNAUTHENTICATED: (401, 401),
    Code.PAYMENT_REQUIRED: (402, 402),
    Code.FORBIDDEN: (403, 403),
    Code.NOT_FOUND: (404, 404),
    Code.TIMEOUT: (408, 504),
    Code.CONFLICT: (409, 409),
    Code.FAILED_PRECONDITION: (412, 400),
    Code.TOO_LARGE: (413, 413),
    Code.RATE_LIMITED: (429, 429),
    Code.INTERNAL: (500, 500),
    Code.UNIMPLEMENTED: (501, 501),
    Code.OVERLOADED: (503, 503),
    Code.UNAVAILABLE: (503, 503),
}
"""By dialect: OpenAI, the others."""


async def answer_to(error: BaseException) -> tuple[int, dict[str, Any]]:
    """What a client reads when a handler raises this."""

    @web.middleware
    async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = "the-id"
        return await handler(request)

    async def fail(request: web.Request) -> web.StreamResponse:
        raise error

    app = web.Application(middlewares=[identify, answer_errors])
    app.router.add_get("/", fail)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/")
        return response.status, await response.json()


def test_every_code_has_its_row() -> None:
    assert set(WIRE) == set(Code) == set(STATUS)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("code", Code)
def test_every_code_in_every_dialect(code: Code, dialect: Dialect) -> None:
    error = HearthError(code, "it is so", param="field", retry_after_s=1.2, reason="REASON")
    response = error_response(error, dialect, "the-id")
    assert response.status == STATUS[code][dialect is not Dialect.OPENAI]
    assert response.headers["Retry-After"] == "2"
    assert isinstance(response.body, bytes)
    body = json.loads(response.body)
    if dialect is Dialect.OPENAI:
        assert body == {
            "error": {"message": "it is so", "type": WIRE[code].type, "param": "field", "code": "REASON"},
            "request_id": "the-id",
        }
    elif dialect is Dialect.ANTHROPIC:
        assert body == {
            "type": "error",
            "error": {"type": WIRE[code].anthropic_type, "message": "it is so"},
            "request_id": "the-id",
        }
    else:
        assert body["code"] == WIRE[code].grpc_code
        assert body["message"] == "it is so"
        assert [detail["@type"].rpartition(".")[2] for detail in body["details"]] == ["ErrorInfo", "BadRequest"]


def test_code_in_capitals_stands_where_no_reason_is_given() -> None:
    body = error_body(HearthError(Code.NOT_FOUND, "gone"), Dialect.OPENAI, "the-id")
    assert body["error"]["code"] == "NOT_FOUND"
    assert body["error"]["type"] == "error"
    assert body["error"]["param"] is None


@pytest.mark.parametrize(
    ("code", "reason", "is_pointless"),
    [
        (Code.CONFLICT, None, True),
        (Code.UNAVAILABLE, None, False),
        (Code.UNAVAILABLE, "DEPLOYMENT_SCALING_UP", False),
        (Code.UNAVAILABLE, "DEPLOYMENT_FAILED", True),
        (Code.TIMEOUT, "DEADLINE_EXCEEDED", True),
        (Code.TIMEOUT, None, False),
        (Code.INVALID, "POISON", True),
    ],
)
def test_clients_are_told_when_a_retry_is_pointless(code: Code, reason: str | None, is_pointless: bool) -> None:
    headers = error_headers(HearthError(code, "x", reason=reason))
    assert (headers.get("x-should-retry") == "false") is is_pointless


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC])
def test_details_are_members_of_the_error(dialect: Dialect) -> None:
    error = HearthError(Code.UNAVAILABLE, "it is scaling up", details={"cold_start": {"percent": 40}})
    told = error_body(error, dialect, "the-id")["error"]
    assert told["message"] == "it is scaling up"
    assert told["cold_start"] == {"percent": 40}


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/accounts/a/deployments", Dialect.GATEWAY),
        ("/inference/v1/accounts/a/nothing", Dialect.GATEWAY),
        ("/inference/v1/v1/accounts/a/models", Dialect.GATEWAY),
        ("/v1/accounts", Dialect.GATEWAY),
        ("/v1/accountsx", Dialect.OPENAI),
        ("/v1/chat/completions", Dialect.OPENAI),
        ("/v1/messages", Dialect.ANTHROPIC),
        ("/inference/v1/messages", Dialect.ANTHROPIC),
        ("/inference/v1/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/v1/messagesx", Dialect.OPENAI),
        ("/v1/models/accounts/a/models/m", Dialect.OPENAI),
        ("/nothing", Dialect.OPENAI),
    ],
)
def test_dialect_follows_the_plane(path: str, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


def test_event_in_anthropics_dialect_has_its_name() -> None:
    error = HearthError(Code.OVERLOADED, "full")
    name, data, *rest = error_event(error, "the-id", Dialect.ANTHROPIC).split(b"\n")
    assert (name, rest) == (b"event: error", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == error_body(error, Dialect.ANTHROPIC, "the-id")


def test_event_and_bare_bytes_carry_the_same_body() -> None:
    error = HearthError(Code.OVERLOADED, "full", retry_after_s=1.0)
    body = error_body(error, Dialect.OPENAI, "the-id")
    event = error_event(error, "the-id")
    assert json.loads(event.removeprefix(b"data: ").removesuffix(b"\n\n")) == body
    head, _, payload = error_bytes(error, "the-id").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Content-Length: %d" % len(payload) in head
    assert b"Retry-After: 1" in head
    assert json.loads(payload) == body


async def test_unexpected_exception_is_logged_whole_and_told_as_an_id(caplog: pytest.LogCaptureFixture) -> None:
    status, body = await answer_to(ValueError("/secret/path"))
    assert status == 500
    assert body["error"]["message"] == "internal error the-id"
    assert "/secret/path" in caplog.text
    assert "the-id" in caplog.text


async def test_cancelled_request_whose_client_listens_is_told_of_the_shutdown() -> None:
    status, body = await answer_to(asyncio.CancelledError())
    assert status == 503
    assert "shutting down" in body["error"]["message"]


def test_every_status_is_a_real_one() -> None:
    for wire in WIRE.values():
        assert HTTPStatus(wire.status).phrase
        assert HTTPStatus(wire.gateway_status).phrase
