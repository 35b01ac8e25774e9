"""The `updateMask` of changes: only the fields that it names, `display_name,email`; without one, or with `*`, those
that are present. Pure but for reading the query.
"""

from collections.abc import Collection

import msgspec
from aiohttp import web

from appliance.api.control.fields import camel
from appliance.api.control.wire import WireT
from appliance.errors import Code, HearthError


def fields_to_change(request: web.Request, known: Collection[str]) -> Collection[str] | None:
    """The names on the wire of the fields to change; None: those that are present.

    Raises `invalid` naming one that is not `known`.
    """
    parts = (part.strip() for part in request.query.get("updateMask", "").split(","))
    named = {camel(part.partition(".")[0]) for part in parts if part}
    if not named or "*" in named:
        return None
    if unknown := named.difference(known):
        message = f"updateMask: {min(unknown)[:80]!r} is no field that can be changed"
        raise HearthError(Code.INVALID, message, "updateMask")
    return named


def masked_update(request: web.Request, body: WireT) -> WireT:
    """What the body may change; a text that is named and not given becomes empty. Of a member, all is meant.

    Raises `invalid` naming a field that there is not.
    """
    known = msgspec.structs.fields(body)
    named = fields_to_change(request, {field.encode_name for field in known})
    if named is None:
        return body
    changes: dict[str, object] = {}
    for field in known:
        if field.encode_name not in named:
            changes[field.name] = field.default
        elif getattr(body, field.name) is None and field.type == str | None:
            changes[field.name] = ""
    return msgspec.structs.replace(body, **changes)
