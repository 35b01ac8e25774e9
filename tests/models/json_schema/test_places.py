from typing import Any

import pytest

from models.json_schema.places import CHAIN_MAX, Members, Places
from models.json_schema.reading import SchemaError


def members(schema: dict[str, Any]) -> Members:
    return Places(schema).members(schema, "")


def test_members_are_named_by_all_schemas_of_a_place() -> None:
    schema = {
        "properties": {"a": {"properties": {"inner": {}}}},
        "required": ["b"],
        "allOf": [{"properties": {"c": {}}}],
        "anyOf": [{"properties": {"d": {}}}],
        "if": {"properties": {"e": {}}},
        "dependentSchemas": {"x": {"properties": {"f": {}}}},
        "$ref": "#/$defs/more",
        "$defs": {"more": {"patternProperties": {"^g": {}}}},
    }
    found = members(schema)
    assert set(found.names) == set("abcdef")
    assert found.patterns == ("^g",)
    assert not found.is_open


@pytest.mark.parametrize("rest", [True, {}, {"type": "string"}])
@pytest.mark.parametrize("keyword", ["additionalProperties", "unevaluatedProperties"])
def test_whoever_says_something_of_others_lets_them_come(keyword: str, rest: object) -> None:
    assert members({"allOf": [{keyword: rest}]}).is_open
    assert not members({"allOf": [{keyword: False}]}).is_open


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#"}, "leads back to itself"),
        ({"allOf": [{"$ref": "#"}]}, "leads back to itself"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "leads back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "back to itself"),
        ({"$ref": "#/$defs/b", "$defs": {}}, "leads nowhere: #/$defs/b (at /$ref)"),
        ({"$ref": "#/type", "type": "null"}, "leads to no schema"),
        ({"$ref": "https://example.org/schema"}, "must lead to a place in this schema"),
        ({"$ref": "file:///etc/passwd"}, "must lead to a place in this schema"),
        ({"$ref": 3}, "must lead to a place in this schema"),
    ],
)
def test_a_reference_must_lead_somewhere_in_the_schema(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(SchemaError) as refusal:
        members(schema)
    assert said in str(refusal.value)


def test_long_chains_are_refused_before_they_overflow_anything() -> None:
    chain: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(CHAIN_MAX + 5)}
    chain[f"d{CHAIN_MAX + 5}"] = {}
    with pytest.raises(SchemaError):
        members({"$ref": "#/$defs/d0", "$defs": chain})


def test_many_places_that_share_many_names_are_refused() -> None:
    shared: dict[str, Any] = {"properties": {f"name {i}": {} for i in range(1000)}}
    schema = {"allOf": [{"allOf": [{"$ref": "#/$defs/s"}]} for _ in range(1000)], "$defs": {"s": shared}}
    with pytest.raises(SchemaError) as refusal:
        members(schema)
    assert "too many members" in str(refusal.value)


def test_what_was_named_is_taken_out_again() -> None:
    both = Members(("a", "b"), ("^x",)) | Members(("b", "c"), is_open=True)
    assert both == Members(("a", "b", "c"), ("^x",), True)
    assert both.without(Members(("b",), ("^x",))) == Members(("a", "c"), (), True)
