"""What all resources share on the wire: camelCase fields, timestamps, status, and refusing by name what is not served.

Clients send back what they have read, and newer ones send fields of their own: output-only and unknown fields are
ignored.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec
from aiohttp import web

from appliance.api.codec import decode_body, name_the_field
from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX

UNSPECIFIED = "_UNSPECIFIED"
"""Ends the neutral member of each of the API's enums."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every body of the control plane, in and out."""


class Answer(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every resource as clients see it; what has a default of None is left out when unknown."""


ID_SCHEMA = {"minLength": 1, "maxLength": ID_LENGTH_MAX, "pattern": r"^[a-z]([a-z0-9-]*[a-z0-9])?$"}

_NOTHING: list[dict[str, Any]] = [
    {"enum": [None, "", 0, False, [], {}]},
    {"type": "string", "pattern": "_UNSPECIFIED$"},
]
NotServed = Annotated[
    Any,
    msgspec.Meta(
        description="Not served by this version: refused unless empty.", extra_json_schema={"anyOf": _NOTHING}
    ),
]
"""Marks a field that the API names and this version does not carry out."""

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
INT64_MAX = 2**63 - 1
Int64 = (
    Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]
    | Annotated[str, msgspec.Meta(pattern=rf"^([0-9]{{1,18}}|{INT64_MAX})$")]
)
"""Written as a string; some clients send a number. Between 10^18 and the largest there is nothing that is counted."""

ResourceId = Annotated[str, msgspec.Meta(extra_json_schema=ID_SCHEMA)]
"""Chosen by a client. The rules are for who reads the description: `names.validate_id` refuses in better words."""

UpdateMask = Annotated[
    str, msgspec.Meta(description="Fields to change, `displayName,state`, or `*`; left out: those of the body.")
]

_RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)

WireT = TypeVar("WireT", bound=Wire)
EnumT = TypeVar("EnumT", bound=StrEnum)


class UpdateQuery(Wire, frozen=True, kw_only=True):
    update_mask: UpdateMask = ""


class Empty(Wire, frozen=True, kw_only=True):
    pass


class Status(Wire, frozen=True, kw_only=True):
    code: str = "OK"
    message: str = ""


async def decode(request: web.Request, kind: type[WireT]) -> WireT:
    """The body, once nothing in it asks for what is not served."""
    body = await decode_body(request, kind)
    refuse_not_served(body)
    return body


def decode_query(request: web.Request, kind: type[WireT]) -> WireT:
    """The query parameters that `kind` names, read from their text; others are ignored.

    Raises `invalid` naming the parameter.
    """
    known: dict[str, Any] = {}
    for field in _fields_of(kind):
        text = request.query.get(field.encode_name, "")
        if not text or (field.type == NotServed and text.lower() in ("false", "0")):
            continue
        known[field.encode_name] = _time(text, field.encode_name) if field.name in _times_of(kind) else text
    try:
        query = msgspec.convert(known, kind, strict=False)
    except msgspec.ValidationError as error:
        raise name_the_field(str(error)) from error
    refuse_not_served(query)
    return query


@cache
def _times_of(kind: type[Wire]) -> frozenset[str]:
    """Fields that hold a time: a query is read leniently, for all in it is text, and a lenient time may be a number."""
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if datetime in (hint, *get_args(hint)))


def _time(text: str, name: str) -> datetime:
    if _RFC_3339.fullmatch(text):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(text, Timestamp)
    raise HearthError(Code.INVALID, f"{name}: {text[:40]!r} is no time such as 2026-01-02T03:04:05Z", name)


def refuse_not_served(body: Wire, path: str = "") -> None:
    """Raise `invalid` naming the first field that would have to be ignored."""
    for field in _fields_of(type(body)):
        value = getattr(body, field.name)
        if isinstance(value, Wire):
            refuse_not_served(value, f"{path}{field.encode_name}.")
        elif not is_neutral(value) and field.type == NotServed:
            raise not_served(f"{path}{field.encode_name}")


@cache
def _fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def not_served(name: str) -> HearthError:
    return HearthError(Code.INVALID, f"{name}: this version of Hearth does not carry it out; leave it out", name)


def is_neutral(value: object) -> bool:
    """Whether a value asks for nothing: absent, empty, zero, false, unspecified, or made of only such."""
    match value:
        case str():
            return not value or value.endswith(UNSPECIFIED)
        case dict():
            return all(is_neutral(member) for member in value.values())
        case _:
            return not value


def parse_enum(kind: type[EnumT], text: str | None, param: str) -> EnumT | None:
    """None when nothing is specified; `invalid` for a member that the API has and this version does not serve."""
    if text is None or is_neutral(text):
        return None
    try:
        return kind(text)
    except ValueError as error:
        served = ", ".join(kind)
        raise HearthError(
            Code.INVALID, f"{param}: {text!r} is not served; this version serves {served}", param
        ) from error


def render_time(seconds: float | None) -> str | None:
    """RFC 3339 in UTC with microseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
