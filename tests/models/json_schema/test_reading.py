import json
from typing import Any

import pytest

from models.json_schema.reading import (
    BYTES_MAX,
    DEPTH_MAX,
    ENUM_MAX,
    VALUES_MAX,
    SchemaError,
    keys_of,
    read_schema,
    step,
)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def test_a_schema_comes_as_an_object_a_boolean_or_text() -> None:
    assert read_schema({"type": "null"}) == {"type": "null"}
    assert read_schema('{"type": "null"}') == {"type": "null"}
    assert read_schema(True) is True
    assert read_schema(" false ") is False


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "an object or a boolean"),
        (3, "an object or a boolean"),
        ([], "an object or a boolean"),
        ("[]", "is not a JSON object"),
        ("nonsense", "is not JSON"),
        ('{"a": 1, "a": 2}', "holds the key 'a' twice"),
        ("[" * 100_000, "more than"),
        ('{"a": NaN}', "NaN"),
        ('{"a": "\ud800"}', "surrogate"),
        ({"a": "\ud800"}, "surrogate"),
        ({"const": float("inf")}, "must be a finite number (at /const)"),
        ({"const": 2**70}, "must be a whole number of 64 bits (at /const)"),
        ({"description": "x" * BYTES_MAX}, "is larger than"),
        (json.dumps({"description": "x" * BYTES_MAX}), "is larger than"),
        (nested(DEPTH_MAX + 1), "is nested deeper than"),
        ({"required": ["x"] * VALUES_MAX}, "holds more than"),
        ({"enum": [1] * (ENUM_MAX + 1)}, "must have at most 5000 values (at /enum)"),
    ],
)
def test_what_exceeds_a_limit_is_refused(schema: object, said: str) -> None:
    with pytest.raises(SchemaError) as refusal:
        read_schema(schema)
    assert said in str(refusal.value)


def test_the_largest_allowed_is_allowed() -> None:
    assert read_schema(nested(DEPTH_MAX)) == nested(DEPTH_MAX)
    assert read_schema({"enum": [1] * ENUM_MAX})


def test_pointers_lead_through_any_names() -> None:
    pointer = step("/a", "b/c~", 3)
    assert pointer == "/a/b~1c~0/3"
    assert keys_of(pointer) == ["a", "b/c~", "3"]
    assert keys_of("") == []
