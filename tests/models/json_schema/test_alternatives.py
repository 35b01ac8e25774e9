from typing import Any

import pytest

from models.json_schema.alternatives import COMPARED_MAX, are_exclusive
from models.json_schema.places import Places


def kind(value: object, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": value}}, "required": ["kind"], **more}


@pytest.mark.parametrize(
    ("schemas", "expected"),
    [
        ([{"type": "integer"}, {"type": "string"}], True),
        ([{"type": ["null", "array"]}, {"type": "object"}], True),
        ([{"type": "integer"}, {"type": "number"}], False),
        ([{"type": "number", "minimum": 3}, {"type": "number", "maximum": 2}], False),
        ([{"const": 1}, {"const": 2}, {"const": "1"}], True),
        ([{"enum": [1, 2]}, {"enum": [2, 3]}], False),
        ([{"const": 1}, {"const": True}], True),
        ([{"const": 1}, {"const": 1.0}], False),
        ([{"const": "a"}, {"type": "integer"}], True),
        ([{"const": 1.5}, {"type": "integer"}], True),
        ([kind("a"), kind("b")], True),
        ([kind("a"), kind("a")], False),
        ([kind("a"), kind("b", required=[])], False),
        ([kind("a"), {"properties": {"kind": {"const": "b"}}, "required": ["kind"]}], True),
        ([{"required": ["a"]}, {"required": ["b"]}], False),
        ([{"$ref": "#/$defs/a"}, kind("b")], True),
        ([False, {}], True),
        ([{}, {"type": "null"}], False),
        ([{"const": index} for index in range(COMPARED_MAX + 1)], False),
    ],
)
def test_schemas_exclude_each_other_where_that_is_plain(schemas: list[Any], expected: bool) -> None:
    places = Places({"$defs": {"a": kind("a")}})
    assert are_exclusive(schemas, "/oneOf", places) is expected
