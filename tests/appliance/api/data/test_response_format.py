import json
from typing import Any

import msgspec
import pytest

from appliance.api.data.response_format import (
    UNENFORCED_HEADER,
    AnswerFormat,
    ResponseFormat,
    read_response_format,
    unenforced_headers,
)
from appliance.errors import Code, HearthError
from runtime.submission import GrammarConstraint, JsonConstraint

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
SETS = {"type": "array", "uniqueItems": True}


def read(**said: Any) -> AnswerFormat:
    return read_response_format(msgspec.convert(said, ResponseFormat))


def schema_of(answer_format: AnswerFormat) -> dict[str, Any]:
    assert isinstance(answer_format.constraint, JsonConstraint)
    schema: dict[str, Any] = json.loads(answer_format.constraint.schema)
    schema.pop("x-guidance")
    return schema


def refusal(**said: Any) -> HearthError:
    with pytest.raises(HearthError) as refused:
        read(**said)
    assert refused.value.code is Code.INVALID
    return refused.value


def test_text_and_nothing_ask_for_nothing() -> None:
    assert read_response_format(None) == AnswerFormat()
    assert read(type="text") == AnswerFormat()


def test_json_object_alone_is_any_object() -> None:
    assert schema_of(read(type="json_object")) == {"type": "object"}


def test_json_object_takes_a_schema() -> None:
    expected = {**SCHEMA, "additionalProperties": False}
    assert schema_of(read(type="json_object", schema=SCHEMA)) == expected
    assert schema_of(read(type="json_object", schema=json.dumps(SCHEMA))) == expected
    assert schema_of(read(type="json_object", schema={"required": ["a"]})) == {"type": "object", "required": ["a"]}
    assert schema_of(read(type="json_object", schema={"type": "array"})) == {"type": "array"}


@pytest.mark.parametrize(
    "json_schema",
    [
        SCHEMA,
        json.dumps(SCHEMA),
        {"name": "answer", "schema": SCHEMA},
        {"name": "answer", "description": "d", "schema": SCHEMA, "strict": True},
        {"name": "answer", "schema": json.dumps(SCHEMA), "strict": None},
        json.dumps({"schema": SCHEMA}),
    ],
)
def test_json_schema_comes_raw_or_wrapped_as_json_or_text(json_schema: Any) -> None:
    expected = {**SCHEMA, "additionalProperties": False}
    assert schema_of(read(type="json_schema", json_schema=json_schema)) == expected


def test_a_schema_with_members_named_like_the_wrapper_is_a_schema() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "schema": {"type": "string"}}}
    assert set(schema_of(read(type="json_schema", json_schema=schema))["properties"]) == {"name", "schema"}
    assert schema_of(read(type="json_schema", schema={"type": "null"})) == {"type": "null"}


def test_a_grammar_is_checked_and_passed_on() -> None:
    assert read(type="grammar", grammar='root ::= "a"').constraint == GrammarConstraint(gbnf='root ::= "a"')


def test_what_is_not_enforced_is_told() -> None:
    answer_format = read(type="json_object", schema=SETS)
    assert unenforced_headers(answer_format.unenforced) == {UNENFORCED_HEADER: "response_format.schema/uniqueItems"}
    answer_format = read(type="json_schema", json_schema={"schema": SETS, "strict": False})
    assert answer_format.unenforced == ["response_format.json_schema.schema/uniqueItems"]
    assert unenforced_headers([]) == {}


def test_the_header_is_plain_and_bounded() -> None:
    [header] = unenforced_headers(["a/b c,ü\r\nx"]).values()
    assert header == "a/b%20c%2C%C3%BC%0D%0Ax"
    [header] = unenforced_headers([f"place/{index}" for index in range(10_000)]).values()
    assert len(header) < 2100
    assert header.endswith(", ...")


@pytest.mark.parametrize(
    ("said", "param", "message"),
    [
        ({"type": "json_schema"}, "json_schema", "this field is required"),
        ({"type": "grammar"}, "grammar", "this field is required"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json_schema.schema", "this field is required"),
        ({"type": "json_schema", "json_schema": 3}, "json_schema", "a JSON schema is an object or a boolean"),
        ({"type": "json_schema", "json_schema": "nonsense"}, "json_schema", "is not JSON"),
        ({"type": "json_schema", "json_schema": "[" * 10_000}, "json_schema", "nested too deeply"),
        ({"type": "json_schema", "json_schema": {"type": "x"}}, "json_schema", "(at /type)"),
        ({"type": "json_object", "schema": {"items": {"pattern": "["}}}, "schema", "(at /items/pattern)"),
        ({"type": "json_object", "schema": {"$ref": "file:///etc/passwd"}}, "schema", "(at /$ref)"),
        (
            {"type": "json_schema", "json_schema": {"schema": SETS, "strict": True}},
            "json_schema.schema",
            "is strict, and /uniqueItems cannot be enforced",
        ),
        ({"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}, "json_schema.strict", "true or false"),
        ({"type": "grammar", "grammar": "root ::= ("}, "grammar", "line 1, column"),
    ],
)
def test_a_refusal_names_the_field(said: dict[str, Any], param: str, message: str) -> None:
    error = refusal(**said)
    assert error.param == f"response_format.{param}"
    assert error.message.startswith(f"response_format.{param}: ")
    assert message in error.message
