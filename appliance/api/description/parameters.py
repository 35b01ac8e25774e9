"""The parameters of an operation: in its path, in its query, in its headers."""

import re
from typing import Any

import msgspec

from appliance.api.control.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from appliance.api.control.wire import ID_SCHEMA, Answer
from appliance.api.data.generation import (
    COLD_START_WAIT_HEADER,
    ISOLATION_KEY_HEADER,
    SESSION_AFFINITY_HEADER,
)
from appliance.api.description.schemas import Schemas
from appliance.api.routing import Permission, Route

_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_ID = {"type": "string", **ID_SCHEMA}
_NAME = "[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
_SLASH = "(/|%2F)"
"""Whether a tool looks at a full name before it encodes it, or after."""
_FULL_NAME = _SLASH.join(["accounts", _NAME, "[A-Za-z]+", _NAME])
_ID_OR_FULL_NAME = {"type": "string", "pattern": f"^({_NAME}|{_FULL_NAME})$"}
_TEXT = {"type": "string", "minLength": 1, "pattern": r"^[A-Za-z0-9._~-]+$"}
_READ_MASK = {
    "name": "readMask",
    "in": "query",
    "schema": {"type": "string"},
    "description": "Only these fields of the answer, `name,status.message`; empty or `*`: all.",
}

_UPDATE_MASK = {
    "name": "updateMask",
    "in": "query",
    "schema": {"type": "string"},
    "description": "Fields to change, `displayName,state`, or `*`; left out: those of the body.",
}


_UPGRADE = {
    "name": "Upgrade",
    "in": "header",
    "required": True,
    "schema": {"const": "websocket"},
    "description": "With the other headers that open a websocket.",
}


def shown_path(path: str) -> str:
    """Without the patterns that only the router needs."""
    return _PARAMETER.sub(r"{\1}", path)


def parameters_of(route: Route, schemas: Schemas) -> list[dict[str, Any]]:
    found = [_path_parameter(name) for name in _PARAMETER.findall(route.path)]
    if route.plural is not None:
        assert isinstance(route.answer, type), "a list is of Structs"
        found += _of_lists(route.answer)
    elif has_read_mask(route):
        found.append(_READ_MASK)
    if route.query is not None:
        found += _own_query(route.query, schemas)
    if (
        route.method == "PATCH"
        and ":" not in route.path
        and _UPDATE_MASK["name"] not in {each["name"] for each in found}
    ):
        found.append(_UPDATE_MASK)
    if route.permission is Permission.INFER:
        found += _OF_INFERENCE
    if route.is_websocket:
        found.append(_UPGRADE)
    return found


def has_read_mask(route: Route) -> bool:
    """Whether single resources are shown as the caller asks."""
    kind = route.answer
    return route.method == "GET" and isinstance(kind, type) and issubclass(kind, Answer)


def _path_parameter(name: str) -> dict[str, Any]:
    what = name.removesuffix("_id").replace("_", " ")
    told = f"The {what}'s id; its full name, percent-encoded, is understood too." if name.endswith("_id") else what
    schema = _ID_OR_FULL_NAME if name.endswith("_id") else _TEXT
    if name == "account_id":
        schema, told = _ID, "The account's id."
    if name == "version_id":
        schema, told = _TEXT, "The version's id."
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": told}


def _own_query(kind: type[msgspec.Struct], schemas: Schemas) -> list[dict[str, Any]]:
    properties = schemas.properties(kind)
    shown = []
    for field in msgspec.structs.fields(kind):
        schema = {name: value for name, value in properties[field.encode_name].items() if name != "default"}
        described = schema.pop("description", None)
        parameter = {"name": field.encode_name, "in": "query", "required": field.required, "schema": _as_text(schema)}
        shown.append(parameter if described is None else parameter | {"description": described})
    return shown


def _as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has text and no null, and an empty text is as if it were left out."""
    if "anyOf" in schema:
        others = [each for each in schema["anyOf"] if each != {"type": "null"}]
        schema = others[0] if len(others) == 1 else {**schema, "anyOf": others}
    return {"anyOf": [schema, {"const": ""}]} if {"format", "pattern"} & set(schema) else schema


def _of_lists(answer: type[msgspec.Struct]) -> list[dict[str, Any]]:
    fields = ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(answer))
    texts = {
        "pageToken": "`nextPageToken` of the page before; everything else asked for must stay the same.",
        "filter": "Which ones, in the language of [AIP-160](https://google.aip.dev/160): "
        f'`displayName:"blue" AND NOT createTime<"2026-01-01T00:00:00Z"`. Fields: {fields}.',
        "orderBy": "`createTime desc, name`: fields, each with `desc` if it descends.",
    }
    size = {
        "name": "pageSize",
        "in": "query",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
        "description": f"{PAGE_SIZE_DEFAULT} when it is left out or 0; larger ones than {PAGE_SIZE_MAX} are that.",
    }
    others = [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": told} for name, told in texts.items()
    ]
    return [size, *others, _READ_MASK]


_OF_INFERENCE = [
    {
        "name": COLD_START_WAIT_HEADER,
        "in": "header",
        "schema": {"type": "string", "pattern": r"^(([0-9]{1,3}|[12][0-9]{3}|3[0-5][0-9]{2})(\.[0-9]{1,3})?|3600)$"},
        "description": "Seconds to wait for a model that rests, 0 to 3600, in the place of the machine's own setting.",
    },
    {
        "name": SESSION_AFFINITY_HEADER,
        "in": "header",
        "schema": {"type": "string"},
        "description": "Requests of one session prefer the same replica.",
    },
    {
        "name": ISOLATION_KEY_HEADER,
        "in": "header",
        "schema": {"type": "string"},
        "description": "Prompts are found in the cache only by requests of the same key.",
    },
]
