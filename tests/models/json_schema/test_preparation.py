import json
from typing import Any

import pytest

from models.json_schema.preparation import UNENFORCEABLE, prepare_schema
from models.json_schema.reading import SchemaError
from tests.models.json_schema.cases import CASES


def prepared(schema: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(prepare_schema(schema).schema_text)
    assert result.pop("x-guidance")
    return result


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_enforced_is_enforced_whole(name: str) -> None:
    assert prepare_schema(CASES[name].schema).unenforced == []


def test_objects_with_properties_have_no_others() -> None:
    assert prepared({"properties": {"a": {}}}) == {"properties": {"a": {}}, "additionalProperties": False}
    assert prepared({"type": "object"}) == {"type": "object"}
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        assert prepared({"properties": {"a": {}}, keyword: True}).get("additionalProperties", {}) == {}


def test_schemas_of_one_object_know_each_others_members() -> None:
    schema = {
        "properties": {"a": {}},
        "allOf": [{"$ref": "#/$defs/base"}],
        "anyOf": [{"properties": {"c": {}}}, {"properties": {"d": {}}}],
        "$defs": {"base": {"properties": {"b": {}}}},
    }
    result = prepared(schema)
    assert set(result["properties"]) == set("abcd")
    [base] = result["$defs"].values()
    assert set(base["properties"]) == set("abcd")
    assert [set(part["properties"]) for part in result["anyOf"]] == [set("abc"), set("abd")]
    assert all(part["additionalProperties"] is False for part in (result, base, *result["anyOf"]))


def test_a_definition_that_is_used_alone_and_within_another_is_written_twice() -> None:
    schema = {
        "properties": {"plain": {"$ref": "#/$defs/base"}, "more": {"$ref": "#/$defs/more"}},
        "$defs": {
            "base": {"properties": {"a": {}}},
            "more": {"properties": {"b": {}}, "allOf": [{"$ref": "#/$defs/base"}]},
            "unused": {"type": "no-such"},
        },
    }
    written = [set(part["properties"]) for part in prepared(schema)["$defs"].values()]
    assert sorted(written, key=sorted) == [{"a"}, {"a", "b"}, {"a", "b"}]


def test_names_of_definitions_never_reach_the_engine() -> None:
    result = prepared({"$ref": "#/$defs/a%25b", "$id": "http://x", "$defs": {"a%b": {"$anchor": "y", "type": "null"}}})
    assert result == {"$ref": "#/$defs/0", "$defs": {"0": {"type": "null"}}}


def test_what_asks_for_nothing_is_not_listed() -> None:
    schema = {
        "uniqueItems": False,
        "not": False,
        "dependentRequired": {},
        "propertyNames": True,
        "then": {"minimum": 1},
    }
    assert prepare_schema(schema).unenforced == []


def test_what_cannot_be_enforced_is_listed_once_with_its_place() -> None:
    schema = {
        "items": {"$ref": "#/$defs/set"},
        "contains": {"$ref": "#/$defs/set"},
        "properties": {"x": {"$ref": "#/$defs/set"}},
        "$defs": {"set": {"uniqueItems": True}},
    }
    assert sorted(prepare_schema(schema).unenforced) == ["/$defs/set/uniqueItems", "/contains"]


@pytest.mark.parametrize("keyword", sorted(UNENFORCEABLE))
def test_each_keyword_that_is_not_enforced_is_named(keyword: str) -> None:
    assert prepare_schema({keyword: {"a": ["b"]}}).unenforced == [f"/{keyword}"]


def test_patterns_of_names_that_may_overlap_open_the_object() -> None:
    schema = {"patternProperties": {"^a": {}, "b$": {}}, "additionalProperties": False}
    assert prepare_schema(schema).unenforced == ["/patternProperties", "/additionalProperties"]
    assert prepared(schema) == {}
    schema = {"patternProperties": {"^a": {}, "(?=b)": {}}, "properties": {"c": {}}}
    assert prepare_schema(schema).unenforced == ["/patternProperties/(?=b)"]
    assert "additionalProperties" not in prepared(schema)


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        (False, ""),
        ({"items": 3}, "/items"),
        ({"properties": []}, "/properties"),
        ({"properties": {"a/b": 1}}, "/properties/a~1b"),
        ({"patternProperties": {"[": {}}}, "/patternProperties/["),
        ({"prefixItems": {}}, "/prefixItems"),
        ({"anyOf": []}, "/anyOf"),
        ({"allOf": [1]}, "/allOf/0"),
        ({"oneOf": {}}, "/oneOf"),
        ({"pattern": 3}, "/pattern"),
        ({"pattern": "["}, "/pattern"),
        ({"minProperties": -1}, "/minProperties"),
        ({"$ref": "#/nowhere"}, "/$ref"),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, "/properties/a"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: object, pointer: str) -> None:
    with pytest.raises(SchemaError) as refusal:
        prepare_schema(schema)
    assert refusal.value.pointer == pointer


def test_a_schema_that_grows_without_measure_is_refused() -> None:
    levels = {
        f"d{i}": {"anyOf": [{"properties": {f"{side}{i}": {}}, "$ref": f"#/$defs/d{i + 1}"} for side in "ab"]}
        for i in range(30)
    }
    with pytest.raises(SchemaError) as refusal:
        prepare_schema({"$ref": "#/$defs/d0", "$defs": {**levels, "d30": {"properties": {"end": {}}}}})
    assert "too large" in str(refusal.value) or "too many" in str(refusal.value)
