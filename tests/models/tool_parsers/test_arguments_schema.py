from typing import Any

import pytest

from models.json_schema.preparation import prepare_schema
from models.json_schema.reading import SchemaError
from models.tool_parsers.arguments_schema import arguments_schema


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, {"type": "object", "properties": {}, "additionalProperties": False}),
        ({}, {"type": "object"}),
        ({"type": ["object", "null"], "title": "t"}, {"type": "object", "title": "t"}),
        ({"anyOf": [{"required": ["a"]}]}, {"type": "object", "anyOf": [{"required": ["a"]}]}),
    ],
)
def test_arguments_are_an_object(parameters: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert arguments_schema(parameters) == expected
    assert prepare_schema(expected).unenforced == []


@pytest.mark.parametrize("kind", ["string", "no-such", ["null"], None, 1])
def test_arguments_of_another_kind_are_refused(kind: Any) -> None:
    with pytest.raises(SchemaError):
        arguments_schema({"type": kind})
