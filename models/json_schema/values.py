"""Keywords whose values are no schemas: checked, and brought into the form that the grammar engine takes."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from models.json_schema.reading import ENUM_MAX, Schema, refuse, step

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
FORMATS = frozenset({"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
FORMATS_UNENFORCEABLE = frozenset(
    {
        "idn-email",
        "idn-hostname",
        "iri",
        "iri-reference",
        "json-pointer",
        "regex",
        "relative-json-pointer",
        "uri-reference",
        "uri-template",
    }
)
"""The standard's others. Every other name says something to people, as `password` does, and asks for nothing."""
COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
COUNT_MAX = 2**31 - 1
BOUND_MAX = 2.0**53
MULTIPLES_MAX = 10_000
"""The engine counts up to this, without zeros at the end, in an automaton with as many states."""
_DIGITS_MAX = 9

LeaveOut = Callable[[str], None]
"""Called with the pointer of what cannot be enforced."""


def copy_plain_keywords(schema: dict[str, Any], pointer: str, leave_out: LeaveOut) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if "type" in schema:
        result["type"] = _types(schema["type"], step(pointer, "type"))
    if "const" in schema:
        result["const"] = schema["const"]
    if "enum" in schema:
        result["enum"] = _enumerated(schema["enum"], step(pointer, "enum"))
    if "required" in schema:
        result["required"] = _names(schema["required"], step(pointer, "required"))
    for keyword in COUNTS:
        if keyword in schema:
            result[keyword] = count_of(schema, keyword, pointer)
    _copy_bounds(schema, pointer, leave_out, result)
    _copy_multiple(schema, pointer, leave_out, result)
    _copy_format(schema, pointer, leave_out, result)
    return result


def count_of(schema: dict[str, Any], keyword: str, pointer: str) -> int:
    count = schema[keyword]
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= COUNT_MAX:
        refuse(f"must be a whole number between 0 and {COUNT_MAX}", step(pointer, keyword))
    return count


def list_of_schemas(value: object, pointer: str) -> list[Schema]:
    if not isinstance(value, list):
        refuse("must be a list of schemas", pointer)
    for index, part in enumerate(value):
        if not isinstance(part, dict | bool):
            refuse("must be a schema: an object or a boolean", step(pointer, index))
    return value


def schemas_by_name(schema: dict[str, Any], keyword: str, pointer: str) -> dict[str, Any]:
    value = schema.get(keyword, {})
    if not isinstance(value, dict):
        refuse("must be an object of schemas", step(pointer, keyword))
    return value


def are_apart(patterns: Sequence[str]) -> bool:
    """Whether no name can match two of them, as their literal beginnings tell."""
    beginnings = [_beginning(pattern) for pattern in patterns]
    return all(
        one is not None and other is not None and not one.startswith(other) and not other.startswith(one)
        for index, one in enumerate(beginnings)
        for other in beginnings[index + 1 :]
    )


def _beginning(pattern: str) -> str | None:
    """The letters and digits that every match begins with, where it must be at the name's beginning."""
    if not pattern.startswith("^") or "|" in pattern:
        return None
    length = 1
    while length < len(pattern) and pattern[length].isalnum():
        length += 1
    if pattern[length : length + 1] in ("*", "+", "?", "{"):
        length -= 1  # the last one is repeated, perhaps never
    return pattern[1 : max(length, 1)]


def _types(value: object, pointer: str) -> object:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name in TYPES for name in names):
        refuse(f"must be one or several of {', '.join(sorted(TYPES))}", pointer)
    return value


def _enumerated(value: object, pointer: str) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= ENUM_MAX:
        refuse(f"must be a list of 1 to {ENUM_MAX} values", pointer)
    return value


def _names(value: object, pointer: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        refuse("must be a list of names", pointer)
    return list(dict.fromkeys(value))


def _copy_bounds(schema: dict[str, Any], pointer: str, leave_out: LeaveOut, result: dict[str, Any]) -> None:
    for keyword, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        bounds = {name: schema[name] for name in (keyword, exclusive) if name in schema}
        if isinstance(bounds.get(exclusive), bool):  # as it was written until 2013
            is_exclusive = bounds.pop(exclusive)
            if is_exclusive and keyword in bounds:
                bounds = {exclusive: bounds[keyword]}
        for name, bound in bounds.items():
            if not _is_number(bound):
                refuse("must be a number", step(pointer, name))
            if abs(bound) > BOUND_MAX:
                leave_out(step(pointer, name))
            else:
                result[name] = bound


def _copy_multiple(schema: dict[str, Any], pointer: str, leave_out: LeaveOut, result: dict[str, Any]) -> None:
    if "multipleOf" not in schema:
        return
    step_size = schema["multipleOf"]
    if not _is_number(step_size) or step_size <= 0:
        refuse("must be a number greater than 0", step(pointer, "multipleOf"))
    _, digits, exponent = Decimal(repr(step_size)).normalize().as_tuple()
    significant = int("".join(map(str, digits[: _DIGITS_MAX + 1])))
    if significant > MULTIPLES_MAX or not isinstance(exponent, int) or not -_DIGITS_MAX <= exponent <= _DIGITS_MAX:
        leave_out(step(pointer, "multipleOf"))
    else:
        result["multipleOf"] = step_size


def _copy_format(schema: dict[str, Any], pointer: str, leave_out: LeaveOut, result: dict[str, Any]) -> None:
    name = schema.get("format")
    if "format" in schema and not isinstance(name, str):
        refuse("must be a name", step(pointer, "format"))
    if name in FORMATS:
        result["format"] = name
    elif name in FORMATS_UNENFORCEABLE:
        leave_out(step(pointer, "format"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
