"""Errors to HTTP, once: the only table from code to status and body, in the OpenAI, Anthropic and gateway dialects.

Bodies carry a message, constants and an id; never a path, a traceback or the text of an unexpected exception.
"""

import asyncio
import logging
import math
import re
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from appliance.api.routing import request_id
from appliance.errors import Code, HearthError

logger = logging.getLogger(__name__)


class Dialect(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GATEWAY = "gateway"


class Wire(NamedTuple):
    """How one code looks to clients."""

    status: int
    type: str
    """`error.type` of the OpenAI dialect; `error.code` is the reason, or the code in capitals."""
    grpc_code: int
    gateway_status: int
    """Of the Anthropic dialect too."""
    anthropic_type: str
    is_retry_pointless: bool = False
    """Stainless clients retry 408, 409, 429 and 5xx by themselves; this, or the reason, tells them not to."""


class GatewayError(msgspec.Struct):
    code: int
    """Of gRPC."""
    message: str
    details: list[dict[str, Any]]


class OpenAIErrorBody(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(msgspec.Struct):
    error: OpenAIErrorBody
    request_id: str


class AnthropicErrorBody(msgspec.Struct):
    type: str
    message: str


class AnthropicError(msgspec.Struct, tag_field="type", tag="error"):
    error: AnthropicErrorBody
    request_id: str


WIRE: dict[Code, Wire] = {
    Code.INVALID: Wire(400, "invalid_request_error", 3, 400, "invalid_request_error"),
    Code.UNAUTHENTICATED: Wire(401, "authentication_error", 16, 401, "authentication_error"),
    Code.PAYMENT_REQUIRED: Wire(402, "billing_error", 8, 402, "billing_error"),
    Code.FORBIDDEN: Wire(403, "permission_error", 7, 403, "permission_error"),
    Code.NOT_FOUND: Wire(404, "error", 5, 404, "not_found_error"),
    Code.TIMEOUT: Wire(408, "timeout_error", 4, 504, "timeout_error"),
    Code.CONFLICT: Wire(409, "invalid_request_error", 6, 409, "invalid_request_error", is_retry_pointless=True),
    Code.FAILED_PRECONDITION: Wire(412, "invalid_request_error", 9, 400, "invalid_request_error"),
    Code.TOO_LARGE: Wire(413, "invalid_request_error", 3, 413, "request_too_large"),
    Code.RATE_LIMITED: Wire(429, "rate_limit_error", 8, 429, "rate_limit_error"),
    Code.INTERNAL: Wire(500, "internal_server_error", 13, 500, "api_error"),
    Code.UNIMPLEMENTED: Wire(501, "invalid_request_error", 12, 501, "invalid_request_error", is_retry_pointless=True),
    Code.OVERLOADED: Wire(503, "error", 14, 503, "overloaded_error"),
    Code.UNAVAILABLE: Wire(503, "error", 14, 503, "overloaded_error"),
}

OVER_LIMIT_HEADER = "x-ratelimit-over-limit"
METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
REASON_STATUS = {METHOD_NOT_ALLOWED: 405}
POINTLESS_TO_RETRY = {
    "DEPLOYMENT_FAILED",
    "DEPLOYMENT_SCALED_TO_ZERO",
    "DEADLINE_EXCEEDED",
    "POISON",
    "QUOTA_EXCEEDED",
}
"""Reasons that the same request would meet again a second later, whatever its code."""

_GATEWAY_PATH = re.compile(r"(?:/inference)?(?:/v1){1,2}/accounts(?:/.*)?", re.S)
_ANTHROPIC_PATH = re.compile(r"(?:/inference)?(?:/v1){1,2}/messages(?:/.*)?", re.S)
_GOOGLE_TYPE = "type.googleapis.com/google.rpc."


def dialect_of(path: str) -> Dialect:
    """The control plane speaks googlerpcStatus, messages Anthropic's; all else, unknown paths included, OpenAI's."""
    if _GATEWAY_PATH.fullmatch(path):
        return Dialect.GATEWAY
    return Dialect.ANTHROPIC if _ANTHROPIC_PATH.fullmatch(path) else Dialect.OPENAI


def status_of(error: HearthError, dialect: Dialect) -> int:
    wire = WIRE[error.code]
    by_code = wire.status if dialect is Dialect.OPENAI else wire.gateway_status
    return REASON_STATUS.get(error.reason or "", by_code)


def error_body(error: HearthError, dialect: Dialect, error_id: str) -> dict[str, Any]:
    """With the error's details beside its own members, where the dialect has a place for them."""
    body: dict[str, Any] = msgspec.to_builtins(_form(error, dialect, error_id))
    if "error" in body:
        body["error"] |= error.details
    return body


def _form(error: HearthError, dialect: Dialect, error_id: str) -> GatewayError | AnthropicError | OpenAIError:
    wire = WIRE[error.code]
    match dialect:
        case Dialect.GATEWAY:
            return GatewayError(wire.grpc_code, error.message, _gateway_details(error))
        case Dialect.ANTHROPIC:
            return AnthropicError(AnthropicErrorBody(wire.anthropic_type, error.message), error_id)
        case Dialect.OPENAI:
            reason = error.reason or error.code.name
            told = OpenAIErrorBody(message=error.message, type=wire.type, param=error.param, code=reason)
            return OpenAIError(told, error_id)


def error_headers(error: HearthError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if WIRE[error.code].is_retry_pointless or error.reason in POINTLESS_TO_RETRY:
        headers["x-should-retry"] = "false"
    if error.code is Code.RATE_LIMITED:
        headers[OVER_LIMIT_HEADER] = "yes"
    return headers


def error_response(error: HearthError, dialect: Dialect, error_id: str) -> web.Response:
    return web.Response(
        status=status_of(error, dialect),
        body=msgspec.json.encode(error_body(error, dialect, error_id)),
        content_type="application/json",
        headers=error_headers(error),
    )


def error_event(error: HearthError, error_id: str, dialect: Dialect = Dialect.OPENAI) -> bytes:
    """The last event of a stream that fails after it began."""
    name = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return name + b"data: " + msgspec.json.encode(error_body(error, dialect, error_id)) + b"\n\n"


def error_bytes(error: HearthError, error_id: str) -> bytes:
    """A whole response, for a connection on which no request came about."""
    body = msgspec.json.encode(error_body(error, Dialect.OPENAI, error_id))
    status = HTTPStatus(status_of(error, Dialect.OPENAI))
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **error_headers(error),
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def explain(request: web.Request, error: BaseException) -> HearthError:
    """What to tell the client about any exception out of a handler; raises it again when nobody listens."""
    if is_client_gone(request):
        raise error
    match error:
        case HearthError():
            return error
        case web.HTTPMethodNotAllowed():
            return HearthError(Code.INVALID, f"this path has no {request.method}", reason=METHOD_NOT_ALLOWED)
        case web.HTTPException():
            return HearthError(Code.NOT_FOUND, "there is nothing at this path; see /openapi.json")
        case asyncio.CancelledError():  # the client is there, so it was `server.py`, at the end of the drain
            return HearthError(Code.UNAVAILABLE, "the server is shutting down", retry_after_s=5.0)
    logger.error("request %s failed", request_id(request), exc_info=error)
    return HearthError(Code.INTERNAL, f"internal error {request_id(request)}")


def is_client_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every exception of a handler that has not begun its response becomes an answer."""
    try:
        return await handler(request)
    except (Exception, asyncio.CancelledError) as error:
        answer = explain(request, error)
        response = error_response(answer, dialect_of(request.path), request_id(request))
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _gateway_details(error: HearthError) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if error.reason:
        details.append({"@type": _GOOGLE_TYPE + "ErrorInfo", "reason": error.reason, "domain": "hearth"})
    if error.param:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _GOOGLE_TYPE + "BadRequest", "fieldViolations": [violation]})
    return details
