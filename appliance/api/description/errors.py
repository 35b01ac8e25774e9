"""Which refusals an operation may answer with, and in which form: out of the one table of `api/errors.py`."""

from typing import Any

import msgspec

from appliance.api.auth import WITHOUT_KEY
from appliance.api.description.headers import OF_EVERY_ANSWER
from appliance.api.description.schemas import REFERENCE
from appliance.api.errors import (
    OVER_LIMIT_HEADER,
    WIRE,
    AnthropicError,
    Dialect,
    GatewayError,
    OpenAIError,
    dialect_of,
    status_of,
)
from appliance.api.routing import Permission, Route
from appliance.errors import Code, HearthError

_FORMS: dict[Dialect, type[msgspec.Struct]] = {
    Dialect.OPENAI: OpenAIError,
    Dialect.ANTHROPIC: AnthropicError,
    Dialect.GATEWAY: GatewayError,
}
_MEANING: dict[Code, str] = {
    Code.INVALID: "The request cannot be understood; the message begins with the field.",
    Code.UNAUTHENTICATED: "There is no API key, or it is not valid.",
    Code.PAYMENT_REQUIRED: "The budget is used up.",
    Code.FORBIDDEN: "The caller's role does not allow it.",
    Code.NOT_FOUND: "There is no such thing, or it belongs to another account.",
    Code.TIMEOUT: "It took too long.",
    Code.CONFLICT: "There is one of that name already.",
    Code.FAILED_PRECONDITION: "The state of things does not allow it now.",
    Code.TOO_LARGE: "The body is larger than this machine takes.",
    Code.RATE_LIMITED: "Too many requests, or a quota is used up.",
    Code.INTERNAL: "A mistake of the server's; the message has the id of the line in its log.",
    Code.UNIMPLEMENTED: "The API has it, this version does not.",
    Code.OVERLOADED: "Too much is going on.",
    Code.UNAVAILABLE: "The server or the model cannot answer yet.",
}
_WITH_RETRY_AFTER = {Code.RATE_LIMITED, Code.OVERLOADED, Code.UNAVAILABLE}


def error_responses(route: Route) -> dict[str, dict[str, str]]:
    """By status, each a reference."""
    dialect = dialect_of(route.path)
    statuses = {status_of(HearthError(code, ""), dialect) for code in _codes_of(route)}
    return {str(status): {"$ref": f"#/components/responses/{dialect}{status}"} for status in sorted(statuses)}


def response_components() -> dict[str, Any]:
    """Every status of every form."""
    shared: dict[str, Any] = {}
    for dialect, form in _FORMS.items():
        by_status: dict[int, list[Code]] = {}
        for code in WIRE:
            by_status.setdefault(status_of(HearthError(code, ""), dialect), []).append(code)
        schema = {"$ref": REFERENCE.format(name=form.__name__)}
        shared |= {f"{dialect}{status}": _response(codes, schema) for status, codes in by_status.items()}
    return shared


def schema_components() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(_FORMS.values(), ref_template=REFERENCE)
    return components


def _codes_of(route: Route) -> set[Code]:
    codes = {Code.INVALID, Code.FORBIDDEN, Code.INTERNAL, Code.UNAVAILABLE}
    if route.permission not in WITHOUT_KEY:
        codes |= {Code.UNAUTHENTICATED, Code.RATE_LIMITED, Code.FAILED_PRECONDITION}
    if "{" in route.path or route.permission is Permission.INFER:
        codes |= {Code.NOT_FOUND}
    if route.method != "GET":
        codes |= {Code.TIMEOUT, Code.TOO_LARGE, Code.NOT_FOUND, Code.CONFLICT, Code.FAILED_PRECONDITION}
    if route.permission in (Permission.INFER, Permission.WRITE):
        codes |= {Code.PAYMENT_REQUIRED}
    if route.permission is Permission.INFER:
        codes |= {Code.OVERLOADED}
    return codes


def _response(codes: list[Code], schema: dict[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = dict(OF_EVERY_ANSWER)
    if _WITH_RETRY_AFTER & set(codes):
        headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}, "description": "In seconds."}
    if Code.RATE_LIMITED in codes:
        headers[OVER_LIMIT_HEADER] = {
            "schema": {"type": "string", "enum": ["yes"]},
            "description": "Of a limit by time.",
        }
    headers["x-should-retry"] = {
        "schema": {"type": "string", "enum": ["false"]},
        "description": "There where the same request would meet the same answer.",
    }
    return {
        "description": " ".join(_MEANING[code] for code in codes),
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }
