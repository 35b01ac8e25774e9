"""The schema of a call's arguments, which are always an object, from what a client says of its parameters."""

from typing import Any

from models.json_schema.reading import SchemaError

_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def arguments_schema(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """No parameters are none, not any. Raises SchemaError for a schema of something else than an object."""
    if parameters is None:
        return _NO_ARGUMENTS
    kind = parameters.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise SchemaError("arguments are an object", "/type")
    return {**parameters, "type": "object"}
