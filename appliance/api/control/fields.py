"""The fields of a resource as clients see it, by path: `state`, `status.message`, `annotations.team`. Pure.

The answer's Struct declares them once; filters, orders and masks follow from it. Both spellings of a name are
understood, `displayName` and `display_name`.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import cache
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from appliance.errors import Code, HearthError


class Kind(Enum):
    """What a field holds."""

    TEXT = auto()  # also enums, times, and 64-bit numbers, which are strings on the wire
    NUMBER = auto()
    FLAG = auto()
    MAP = auto()
    LIST = auto()
    OBJECT = auto()


class Field(NamedTuple):
    path: tuple[str, ...]
    """Of Python's names; a map's key is as it was written."""
    kind: Kind
    wire_name: str


def find_field(answer: type[msgspec.Struct], text: str, param: str) -> Field:
    """Raises `invalid` naming the parameter and what there is instead."""
    path: list[str] = []
    wire_names: list[str] = []
    kind: Any = answer
    for name in text.split("."):
        if _is_struct(kind):
            known = _fields_of(kind)
            wire_name = camel(name)
            if wire_name not in known:
                raise HearthError(Code.INVALID, f"{param}: {text!r} is none of {', '.join(known)}", param)
            attribute, kind = known[wire_name]
            path.append(attribute)
            wire_names.append(wire_name)
        elif get_origin(kind) is dict and name:
            path.append(name)
            wire_names.append(name)
            kind = get_args(kind)[1]
        else:
            raise HearthError(Code.INVALID, f"{param}: {text!r} looks into what has no fields", param)
    return Field(tuple(path), _kind_of(kind), ".".join(wire_names))


def read_field(resource: msgspec.Struct, field: Field) -> Any:
    """None where there is nothing on the way to it."""
    value: Any = resource
    for name in field.path:
        if value is None:
            return None
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
    return value


def reader(field: Field) -> Callable[[msgspec.Struct], Any]:
    """`read_field` of one field, for many resources."""
    if len(field.path) == 1:
        return attrgetter(field.path[0])
    return lambda resource: read_field(resource, field)


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)


@cache
def _fields_of(answer: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    """By wire name: Python's, and the type without None."""
    hints = get_type_hints(answer)
    return {
        field.encode_name: (field.name, _without_none(hints[field.name])) for field in msgspec.structs.fields(answer)
    }


def _without_none(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        return _without_none(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        return _without_none(members[0]) if len(members) == 1 else hint
    return hint


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _kind_of(kind: Any) -> Kind:
    if _is_struct(kind):
        return Kind.OBJECT
    if kind is bool:
        return Kind.FLAG
    if kind in (int, float):
        return Kind.NUMBER
    origin = get_origin(kind)
    if origin is dict:
        return Kind.MAP
    return Kind.LIST if origin is list else Kind.TEXT
