"""What schemathesis is told beyond the document: one more check, and bounds on requests that would take long.

Loaded by schemathesis itself, in a process of its own.
"""

import re
from typing import Any

import schemathesis

FAILED_PRECONDITION = 9
"""Of gRPC: the state of things, which no schema knows, is against it."""
FIELD = re.compile(r"`?([A-Za-z_-]+)")


@schemathesis.check
def refusal_names_its_reason(ctx: schemathesis.CheckContext, response: Any, case: Any) -> bool | None:
    """What a schema cannot say is still a rule: an end before its start, a device that this box does not have.

    A request that fits the schema may so be refused, but the refusal says which declared field is to blame.
    """
    if response.status_code not in (400, 413) or case.meta is None or not case.meta.generation.mode.is_positive:
        return None
    body = response.json()
    if (
        body.get("code") == FAILED_PRECONDITION
        or _has_reason(body)
        or "the request body is no readable" in response.text
    ):
        return None
    blamed = _blamed(body)
    declared = _names_in(case.operation.schema.raw_schema)
    if blamed not in declared:
        raise AssertionError(f"refused for {blamed!r}, which the document does not have: {response.text[:500]}")
    return None


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Nobody waits for memory that does not come free, or for a model that does not wake up."""
    body = case.body if case.operation.path == "/v1/node/leases" else None
    if isinstance(body, dict) and isinstance(body.get("waitTimeout", ""), str | None):
        body["waitTimeout"] = "0s"
    if case.headers is not None and case.headers.get("hearth-cold-start-wait", "").isdigit():
        case.headers["hearth-cold-start-wait"] = "5"


def _has_reason(body: dict[str, Any]) -> bool:
    """Such as that of a model's files; only the control plane's form has them apart from the codes."""
    return any("reason" in detail for detail in body.get("details", []))


def _blamed(body: dict[str, Any]) -> str:
    """The first name in the field that the refusal is about; Anthropic's form has it in the message alone."""
    details = [detail for detail in body.get("details", []) if "fieldViolations" in detail]
    error = body.get("error", {})
    text = details[0]["fieldViolations"][0]["field"] if details else error.get("param") or error.get("message", "")
    match = FIELD.match(text)
    return match[1] if match else ""


def _names_in(value: Any) -> set[str]:
    """Of every property and parameter."""
    if isinstance(value, list):
        return {name for item in value for name in _names_in(item)}
    if not isinstance(value, dict):
        return set()
    own = set(value["properties"]) if isinstance(value.get("properties"), dict) else set()
    own |= {value["name"]} if isinstance(value.get("name"), str) else set()
    return own | {name for item in value.values() for name in _names_in(item)}
