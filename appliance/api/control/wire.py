"""What all resources share on the wire: camelCase fields, timestamps, status, and refusing by name what is not served.

Clients send back what they have read, and newer ones send fields of their own: output-only and unknown fields are
ignored.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from appliance.api.codec import decode_body
from appliance.errors import Code, HearthError

UNSPECIFIED = "_UNSPECIFIED"
"""Ends the neutral member of each of the API's enums."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every body of the control plane, in and out."""


class Answer(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every resource as clients see it; what has a default of None is left out when unknown."""


NotServed = Annotated[Any, msgspec.Meta(description="Not served by this version: refused unless empty.")]
"""Marks a field that the API names and this version does not carry out."""

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}$")]
"""Written as a string; some clients send a number."""

WireT = TypeVar("WireT", bound=Wire)
EnumT = TypeVar("EnumT", bound=StrEnum)


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


def refuse_not_served(body: Wire, path: str = "") -> None:
    """Raise `invalid` naming the first field that would have to be ignored."""
    for field in msgspec.structs.fields(body):
        value = getattr(body, field.name)
        name = f"{path}{field.encode_name}"
        if isinstance(value, Wire):
            refuse_not_served(value, f"{name}.")
        elif field.type == NotServed and not is_neutral(value):
            raise not_served(name)


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
