"""A JSON schema from a stranger, checked for size and shape before anything looks into it.

Also what every module here needs to speak of places in it. Nothing here follows a reference or understands a keyword.
"""

import math
from typing import Any, NoReturn

import msgspec

from models.strict_json import MalformedJson, parse_object

BYTES_MAX = 256 * 1024
DEPTH_MAX = 64
VALUES_MAX = 10_000
ENUM_MAX = 5000

Schema = dict[str, Any] | bool


class SchemaError(Exception):
    """`pointer`: JSON pointer to what is wrong, empty for the whole."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(f"{message} (at {pointer})" if pointer else message)
        self.pointer = pointer


def read_schema(schema: object) -> Schema:
    """An object or a boolean, given as such or as JSON text, within all limits; raises SchemaError."""
    if isinstance(schema, str):
        schema = _parse(schema)
    if not isinstance(schema, dict | bool):
        raise SchemaError("a JSON schema is an object or a boolean")
    _check_values(schema)
    try:
        size = len(msgspec.json.encode(schema))
    except UnicodeEncodeError as error:
        raise SchemaError("holds half of a surrogate pair") from error
    if size > BYTES_MAX:
        raise SchemaError(f"is larger than {BYTES_MAX} bytes")
    return schema


def refuse(message: str, pointer: str) -> NoReturn:
    raise SchemaError(message, pointer)


def step(pointer: str, *keys: str | int) -> str:
    """The pointer one or several steps further in."""
    return "/".join([pointer, *(str(key).replace("~", "~0").replace("/", "~1") for key in keys)])


def keys_of(pointer: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


def _parse(text: str) -> Schema:
    if text.strip() in ("true", "false"):
        return text.strip() == "true"
    if len(text) > BYTES_MAX:
        raise SchemaError(f"is larger than {BYTES_MAX} bytes")
    try:
        return parse_object(text.encode(), values_max=VALUES_MAX)
    except UnicodeEncodeError as error:
        raise SchemaError("holds half of a surrogate pair") from error
    except MalformedJson as error:
        raise SchemaError(str(error)) from error


def _check_values(schema: Schema) -> None:
    pending: list[tuple[Any, str, int]] = [(schema, "", 0)]
    num_values = 0
    while pending:
        value, pointer, depth = pending.pop()
        num_values += 1
        if num_values > VALUES_MAX:
            refuse(f"holds more than {VALUES_MAX} values", "")
        if depth > DEPTH_MAX:
            refuse(f"is nested deeper than {DEPTH_MAX}", "")
        if isinstance(value, float) and not math.isfinite(value):
            refuse("must be a finite number", pointer)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            refuse("must be a whole number of 64 bits", pointer)
        if isinstance(value, dict):
            pending += [(child, step(pointer, key), depth + 1) for key, child in value.items()]
        elif isinstance(value, list):
            if pointer.endswith("/enum") and len(value) > ENUM_MAX:
                refuse(f"must have at most {ENUM_MAX} values", pointer)
            pending += [(child, step(pointer, index), depth + 1) for index, child in enumerate(value)]
