"""Schemas with values that they allow and values that they do not, a few for each construct; written for this project.

Values are compared as JSON: members stand in the order in which the schema names them, which is the order in which a
model is made to write them.
"""

from typing import Any, NamedTuple


class Case(NamedTuple):
    schema: Any
    valid: list[Any]
    invalid: list[Any]


_TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value"],
}
_EXPRESSION = {
    "$defs": {
        "expression": {
            "anyOf": [
                {"type": "number"},
                {
                    "type": "object",
                    "properties": {
                        "operator": {"enum": ["+", "*"]},
                        "left": {"$ref": "#/$defs/expression"},
                        "right": {"$ref": "#/$defs/expression"},
                    },
                    "required": ["operator", "left", "right"],
                },
            ]
        }
    },
    "$ref": "#/$defs/expression",
}
_SHAPE = {
    "oneOf": [
        {"$ref": "#/$defs/circle"},
        {
            "type": "object",
            "properties": {"kind": {"const": "square"}, "side": {"type": "number"}},
            "required": ["kind", "side"],
        },
    ],
    "$defs": {
        "circle": {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}},
            "required": ["kind", "radius"],
        }
    },
}

CASES: dict[str, Case] = {
    # types
    "anything": Case({}, [None, 1, "a", [1, {"b": []}], {"a": {"b": None}}], []),
    "true": Case(True, [None, [[]]], []),
    "null": Case({"type": "null"}, [None], [0, False, "", []]),
    "boolean": Case({"type": "boolean"}, [True, False], [0, "true", None]),
    "integer": Case({"type": "integer"}, [0, -1, 10**15], [1.5, "1", None, True]),
    "number": Case({"type": "number"}, [0, 1.5, -2e-05, 1e30], ["1", None]),
    "string": Case(
        {"type": "string"}, ["", "a b", 'quote " and \\', "line\nbreak\ttab", "ünï炉🔥", "\x01"], [1, None, ["a"]]
    ),
    "array": Case({"type": "array"}, [[], [1, "a", [None]]], [{}, "[]"]),
    "object": Case({"type": "object"}, [{}, {"a": 1, "b": {"c": []}}], [[], None, "{}"]),
    "several types": Case({"type": ["string", "null"]}, ["a", None], [1, [], False]),
    # constants
    "enum": Case(
        {"enum": ["red", 7, None, True, [1, 2], {"a": 1}]}, ["red", 7, None, True, [1, 2], {"a": 1}], [8, "re"]
    ),
    "enum with a type": Case({"type": "string", "enum": ["a", "b", 3]}, ["a", "b"], ["c", 3]),
    "enum within bounds": Case({"enum": [1, 5, 9], "minimum": 4}, [5, 9], [1, 4]),
    "const": Case({"const": {"a": [1, None, "x"]}}, [{"a": [1, None, "x"]}], [{"a": [1]}, {}]),
    "const text": Case({"const": 'a"b\\c\n'}, ['a"b\\c\n'], ["a"]),
    # numbers
    "integer range": Case({"type": "integer", "minimum": -3, "maximum": 12}, [-3, 0, 12], [-4, 13, 100, -12]),
    "exclusive range": Case({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}, [1, 2], [0, 3, -1, 10]),
    "number range": Case(
        {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2.25}, [-1.5, 0, 2, 2.1], [-1.6, 2.25, 3]
    ),
    "exclusive as it was": Case({"type": "number", "minimum": 3, "exclusiveMinimum": True}, [3.1, 4], [3, 2]),
    "multiple": Case({"type": "integer", "multipleOf": 7}, [0, 7, 49, -14], [1, 8, 48]),
    "decimal multiple": Case({"type": "number", "multipleOf": 0.25}, [0.25, 2, 1.75], [0.3, 1.1]),
    "multiple within bounds": Case(
        {"type": "integer", "multipleOf": 5, "minimum": 7, "maximum": 23}, [10, 15, 20], [5, 7, 25, 12]
    ),
    # strings
    "length": Case({"type": "string", "minLength": 2, "maxLength": 4}, ["ab", "ünï炉", '"\\\n🔥'], ["a", "abcde"]),
    "pattern": Case(
        {"type": "string", "pattern": "^[a-z]{2}-\\d+$"}, ["ab-1", "xy-0042"], ["AB-1", "ab-", " ab-1", "ab-1x"]
    ),
    "pattern inside": Case({"type": "string", "pattern": "[a-m]+[n-z]"}, ["xaabz", "an"], ["a", "za"]),
    "pattern or pattern": Case({"type": "string", "pattern": "^a|z$"}, ["abc", "xyz", "a"], ["bcd", "za b"]),
    "pattern and length": Case({"type": "string", "pattern": "^a*$", "maxLength": 3}, ["", "aaa"], ["aaaa", "b"]),
    "date": Case({"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31"], ["2024-13-01", "24-01-01", "x"]),
    "uuid": Case(
        {"type": "string", "format": "uuid"},
        ["2eb8aa08-aa98-11ea-b4aa-73b441d16380"],
        ["2eb8aa08aa9811eab4aa73b441d16380"],
    ),
    "ipv4": Case({"type": "string", "format": "ipv4"}, ["127.0.0.1"], ["256.1.1.1", "1.2.3"]),
    "email": Case({"type": "string", "format": "email"}, ["a.b@example.org"], ["a.b", "@"]),
    "rules for texts leave others alone": Case({"minLength": 3, "pattern": "a"}, [1, None, "bab", [""]], ["bb", "a"]),
    # arrays
    "items": Case({"type": "array", "items": {"type": "integer"}}, [[], [1, 2, 3]], [["a"], [1, None]]),
    "item counts": Case(
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        [[True], [True, False, True]],
        [[], [True] * 4],
    ),
    "tuple": Case(
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        [[], [1], [1, "a"]],
        [["a"], [1, "a", 2]],
    ),
    "tuple and more": Case(
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "minItems": 1},
        [[1], [1, None, None]],
        [[], [1, 2]],
    ),
    "tuple as it was": Case(
        {"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "string"}}, [[1, "a"]], [[1, 2]]
    ),
    # objects
    "properties": Case(
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name"],
        },
        [{"name": "a"}, {"name": "a", "age": 3}],
        [{}, {"age": 3}, {"name": 1}, {"name": "a", "other": 1}],
    ),
    "names that need escapes": Case(
        {
            "type": "object",
            "properties": {'a"\\\nü': {"type": "null"}, "": {"type": "null"}},
            "required": ['a"\\\nü', ""],
        },
        [{'a"\\\nü': None, "": None}],
        [{}],
    ),
    "additional members": Case(
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}},
        [{}, {"a": 1, "b": True, "c": False}],
        [{"a": True}, {"a": 1, "b": 1}],
    ),
    "any additional members": Case(
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
        [{"a": 1, "b": [1]}, {"b": "x"}],
        [{"a": "x"}],
    ),
    "a map": Case(
        {"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"x": 1, "y": 2}], [{"x": "1"}]
    ),
    "patterns of names": Case(
        {
            "type": "object",
            "patternProperties": {"^n_": {"type": "number"}, "^s_": {"type": "string"}},
            "additionalProperties": False,
        },
        [{}, {"n_a": 1.5, "s_b": "x"}],
        [{"n_a": "x"}, {"other": 1}],
    ),
    "patterns beside properties": Case(
        {
            "type": "object",
            "properties": {"n_id": {"minimum": 5}},
            "patternProperties": {"^n_": {"type": "integer"}},
        },
        [{"n_id": 5, "n_x": 1}],
        [{"n_id": 4}, {"n_id": 5.5}, {"x": 1}],
    ),
    "required, not described": Case(
        {"type": "object", "required": ["z"]}, [{"z": 1}, {"z": None, "a": 2}], [{}, {"a": 1}]
    ),
    "at most so many members": Case(
        {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "null"}},
        [{}, {"a": None}],
        [{"a": None, "b": None}],
    ),
    "some member": Case({"type": "object", "minProperties": 1}, [{"a": 1}, {"a": 1, "b": 2}], [{}]),
    "rules for objects leave others alone": Case(
        {"properties": {"a": {"type": "integer"}}, "required": ["a"]}, [1, "x", [], {"a": 1}], [{}, {"a": "x"}]
    ),
    # composition
    "any of": Case({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]}, [1, "ab"], ["abc", None, 1.5]),
    "any of, with more": Case(
        {
            "type": "object",
            "properties": {"id": {"type": "integer"}},
            "required": ["id"],
            "anyOf": [
                {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            ],
        },
        [{"id": 1, "a": "x"}, {"id": 1, "b": "x"}],
        [{"id": 1}, {"a": "x"}, {"id": 1, "a": 2}, {"id": 1, "c": "x"}],
    ),
    "any of what is required": Case(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}],
        [{}],
    ),
    "all of": Case(
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]
        },
        [{"a": 1, "b": "x"}],
        [{"a": 1}, {"b": "x"}, {"a": 1, "b": "x", "c": 1}, 1],
    ),
    "all of bounds": Case({"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 5}]}, [3, 4, 5], [2, 6, 3.5]),
    "one of types": Case({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None, 1.5]),
    "one of kinds": Case(
        _SHAPE,
        [{"kind": "circle", "radius": 1}, {"kind": "square", "side": 2.5}],
        [{"kind": "circle", "side": 1}, {"kind": "triangle"}, {}],
    ),
    # references
    "reference": Case(
        {"type": "array", "items": {"$ref": "#/$defs/small"}, "$defs": {"small": {"type": "integer", "maximum": 9}}},
        [[], [1, 9]],
        [[10], ["a"]],
    ),
    "reference with more": Case(
        {"$ref": "#/definitions/text", "maxLength": 3, "definitions": {"text": {"type": "string", "minLength": 1}}},
        ["a", "abc"],
        ["", "abcd", 1],
    ),
    "inheritance by reference": Case(
        {
            "allOf": [{"$ref": "#/$defs/base"}],
            "type": "object",
            "properties": {"extra": {"type": "integer"}},
            "required": ["extra"],
            "$defs": {"base": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}},
        },
        [{"extra": 1, "id": "x"}],
        [{"extra": 1}, {"id": "x"}, {"extra": 1, "id": "x", "y": 1}],
    ),
    "reference to a strange name": Case(
        {"$ref": "#/$defs/a%25b~0~1c", "$defs": {"a%b~/c": {"type": "null"}}}, [None], [1]
    ),
    "tree": Case(
        _TREE,
        [{"value": 1}, {"value": 1, "children": [{"value": 2, "children": []}, {"value": 3}]}],
        [{"children": []}, {"value": 1, "children": [{}]}, {"value": 1, "children": [1]}],
    ),
    "expression": Case(
        _EXPRESSION,
        [1, {"operator": "+", "left": 1, "right": {"operator": "*", "left": 2, "right": 3.5}}],
        ["x", {"operator": "-", "left": 1, "right": 2}, {"operator": "+", "left": 1}],
    ),
    # who names which members
    "unevaluated members": Case(
        {
            "type": "object",
            "allOf": [{"properties": {"a": {"type": "integer"}}}],
            "properties": {"b": {"type": "integer"}},
            "unevaluatedProperties": False,
        },
        [{"b": 1, "a": 2}, {}],
        [{"c": 1}, {"a": "x"}],
    ),
    "unevaluated members of a kind": Case(
        {"type": "object", "properties": {"a": {"type": "integer"}}, "unevaluatedProperties": {"type": "string"}},
        [{"a": 1, "x": "y"}],
        [{"a": 1, "x": 2}],
    ),
}
"""All that is enforced."""
