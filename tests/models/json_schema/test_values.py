from typing import Any

import pytest

from models.json_schema.reading import SchemaError
from models.json_schema.values import are_apart, copy_plain_keywords


def copied(schema: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    left_out: list[str] = []
    return copy_plain_keywords(schema, "", left_out.append), left_out


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 1, "maxLength": 3},
        {"type": ["integer", "null"], "minimum": -3, "exclusiveMaximum": 5.5, "multipleOf": 0.01},
        {"enum": [1, "a"], "const": None},
        {"minItems": 0, "maxItems": 10, "required": ["a", "b"]},
        {"format": "date-time"},
    ],
)
def test_what_the_engine_takes_stays(schema: dict[str, Any]) -> None:
    assert copied(schema) == (schema, [])


def test_what_only_describes_is_dropped() -> None:
    described = {"title": "t", "description": "d", "default": 1, "examples": [1], "$comment": "c", "deprecated": True}
    assert copied(described) == ({}, [])
    assert copied({"format": "password", "x-mine": 1, "x-guidance": {"lenient": True}}) == ({}, [])


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"minimum": 3, "exclusiveMinimum": True}, {"exclusiveMinimum": 3}),
        ({"minimum": 3, "exclusiveMinimum": False}, {"minimum": 3}),
        ({"exclusiveMaximum": True}, {}),
        ({"minLength": 2.0}, {"minLength": 2}),
        ({"required": ["a", "a"]}, {"required": ["a"]}),
    ],
)
def test_older_and_odd_forms_are_brought_into_one(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert copied(schema) == (expected, [])


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"minimum": -1e300}, "/minimum"),
        ({"exclusiveMaximum": 2**60}, "/exclusiveMaximum"),
        ({"multipleOf": 2**31 - 1}, "/multipleOf"),
        ({"multipleOf": 1e-300}, "/multipleOf"),
        ({"multipleOf": 0.30000000000000004}, "/multipleOf"),
        ({"format": "uri-template"}, "/format"),
    ],
)
def test_what_the_engine_does_not_take_is_left_out(schema: dict[str, Any], pointer: str) -> None:
    assert copied(schema) == ({}, [pointer])


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "no-such"}, "/type"),
        ({"type": []}, "/type"),
        ({"type": 3}, "/type"),
        ({"enum": []}, "/enum"),
        ({"enum": "a"}, "/enum"),
        ({"required": "a"}, "/required"),
        ({"required": [1]}, "/required"),
        ({"minLength": -1}, "/minLength"),
        ({"maxItems": 1.5}, "/maxItems"),
        ({"maxItems": True}, "/maxItems"),
        ({"minLength": 2**31}, "/minLength"),
        ({"minimum": "3"}, "/minimum"),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"multipleOf": True}, "/multipleOf"),
        ({"format": 1}, "/format"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SchemaError) as refusal:
        copied(schema)
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], True),
        (["a"], True),
        (["^a", "^b"], True),
        (["^ab", "^ac", "^b"], True),
        (["^a", "^ab"], False),
        (["^a", "b$"], False),
        (["^a|b", "^c"], False),
        (["^a*", "^b"], False),
        (["^", "^b"], False),
        (["^ab?", "^ac"], False),
    ],
)
def test_patterns_are_apart_where_their_beginnings_say_so(patterns: list[str], expected: bool) -> None:
    assert are_apart(patterns) is expected
