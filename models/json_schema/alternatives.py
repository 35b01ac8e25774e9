"""Whether at most one of some schemas can hold for any value, as far as that is plain to see.

Then `oneOf` is no more than `anyOf`, which a grammar can enforce. "No" means: not plain.
"""

from collections.abc import Sequence
from typing import Any

from models.json_schema.places import Places
from models.json_schema.reading import Schema, step

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_DEPTH_MAX = 8
COMPARED_MAX = 100


def are_exclusive(schemas: Sequence[Schema], pointer: str, places: Places) -> bool:
    if len(schemas) > COMPARED_MAX:
        return False
    resolved = [_resolve(schema, step(pointer, index), places) for index, schema in enumerate(schemas)]
    return all(
        _differ(first, second, places, 0) for index, first in enumerate(resolved) for second in resolved[index + 1 :]
    )


def _resolve(schema: Schema, pointer: str, places: Places) -> Schema:
    for _ in range(_DEPTH_MAX):
        if not isinstance(schema, dict) or "$ref" not in schema:
            break
        schema, pointer = places.target(schema["$ref"], pointer)
    return schema


def _differ(first: Schema, second: Schema, places: Places, depth: int) -> bool:
    if first is False or second is False:
        return True
    if not isinstance(first, dict) or not isinstance(second, dict) or depth > _DEPTH_MAX:
        return False
    types = _types(first) & _types(second)
    if not types:
        return True
    if (ones := _constants(first)) is not None and (others := _constants(second)) is not None:
        return not any(_is_same(one, other) for one in ones for other in others)
    return types == {"object"} and _objects_differ(first, second, places, depth)


def _objects_differ(first: dict[str, Any], second: dict[str, Any], places: Places, depth: int) -> bool:
    """By a member that both must have and that tells them apart."""
    for name in set(_list(first.get("required"))) & set(_list(second.get("required"))):
        one, other = (_dict(schema.get("properties")).get(name, True) for schema in (first, second))
        if _differ(_resolve(one, "", places), _resolve(other, "", places), places, depth + 1):
            return True
    return False


def _types(schema: dict[str, Any]) -> set[str]:
    said = schema.get("type")
    if isinstance(said, str):
        types = {said}
    elif isinstance(said, list):
        types = {item for item in said if isinstance(item, str)}
    else:
        types = set(_TYPES)
    if "number" in types:
        types.add("integer")
    if (constants := _constants(schema)) is not None:
        types &= {name for value in constants for name in _types_of(value)}
    return types


def _types_of(value: object) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
    return {"object"}


def _constants(schema: dict[str, Any]) -> list[object] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _is_same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _list(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
