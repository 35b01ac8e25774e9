"""Prepared schemas in the engine: whatever it lets a model write is valid, and it lets it write whatever is valid."""

import json
import random
from typing import Any

import jsonschema
import pytest

from models.json_schema.preparation import prepare_schema
from runtime.llm.grammar.answer_grammar import write_answer_grammar
from runtime.llm.grammar.matcher import GrammarMatcher
from runtime.submission import JsonConstraint
from tests.models.json_schema.cases import CASES
from tests.runtime.llm.grammar.walking import begin, walk, writes

FORMATS = jsonschema.FormatChecker(["date", "ipv4", "email", "uuid"])
NUM_WALKS = 4

SPACINGS: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 2}]

NOT_ENFORCED: list[tuple[dict[str, Any], list[str], Any]] = [
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ["/uniqueItems"], [1, 1]),
    ({"type": "array", "contains": {"const": 1}, "minContains": 2}, ["/contains"], []),
    ({"type": "integer", "not": {"const": 1}}, ["/not"], 1),
    ({"type": "integer", "if": {"minimum": 3}, "then": {"multipleOf": 2}, "else": False}, ["/if"], 5),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, ["/dependentRequired"], {"a": 1}),
    ({"type": "object", "dependencies": {"a": ["b"]}}, ["/dependencies"], {"a": 1}),
    ({"type": "object", "propertyNames": {"maxLength": 1}}, ["/propertyNames"], {"ab": 1}),
    ({"type": "object", "minProperties": 3}, ["/minProperties"], {"a": 1, "b": 2, "c": 3}),
    ({"properties": {"a": {}, "b": {}}, "type": "object", "maxProperties": 1}, ["/maxProperties"], {"a": 1, "b": 2}),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2, "type": "number"}]}, ["/oneOf"], 3),
    ({"type": "string", "pattern": "^(?=a)"}, ["/pattern"], "b"),
    ({"type": "string", "format": "json-pointer"}, ["/format"], "b"),
    ({"type": "number", "maximum": 1e300}, ["/maximum"], 5),
    ({"type": "integer", "multipleOf": 99991}, ["/multipleOf"], 5),
    (
        {"type": "object", "properties": {"a/b": {"items": {"uniqueItems": True}}}},
        ["/properties/a~1b/items/uniqueItems"],
        {},
    ),
]


def matcher(schema: Any) -> GrammarMatcher:
    return begin(write_answer_grammar(JsonConstraint(schema=prepare_schema(schema).schema_text)))


@pytest.mark.parametrize("name", CASES)
def test_every_valid_value_can_be_written_in_any_spacing(name: str) -> None:
    for value in CASES[name].valid:
        for spacing in SPACINGS:
            text = json.dumps(value, ensure_ascii=False, **spacing)
            assert writes(matcher(CASES[name].schema), text), text


@pytest.mark.parametrize("name", CASES)
def test_no_invalid_value_can_be_written(name: str) -> None:
    for value in CASES[name].invalid:
        text = json.dumps(value, ensure_ascii=False)
        assert not writes(matcher(CASES[name].schema), text), text


@pytest.mark.parametrize("name", CASES)
def test_whatever_a_random_model_writes_is_valid(name: str) -> None:
    schema = CASES[name].schema
    # Later standards have no boolean here; the schema is the same.
    standard = jsonschema.Draft4Validator if name == "exclusive as it was" else jsonschema.Draft202012Validator
    standard = jsonschema.Draft7Validator if name == "tuple as it was" else standard
    validator = standard(schema, format_checker=FORMATS)
    rng = random.Random(name)
    texts = [walk(matcher(schema), rng) for _ in range(NUM_WALKS)]
    assert any(text is not None for text in texts)
    for text in texts:
        if text is not None:
            validator.validate(json.loads(text))


@pytest.mark.parametrize(("schema", "pointers", "value"), NOT_ENFORCED)
def test_what_cannot_be_enforced_is_named_and_forbids_nothing(
    schema: dict[str, Any], pointers: list[str], value: Any
) -> None:
    assert prepare_schema(schema).unenforced == pointers
    assert writes(matcher(schema), json.dumps(value))


def test_space_cannot_go_on_for_ever() -> None:
    assert writes(matcher({"type": "object"}), '{ "a" :\n    1 }')
    assert not writes(matcher({"type": "object"}), '{  "a": 1}')
    assert not writes(matcher({"type": "object"}), '{\n\n"a": 1}')
    assert not writes(matcher({"type": "object"}), " {}")


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(.*a){25}", "a{1,100000}", "((a{1,99}){1,99}){1,99}", "\\p{L}+"])
def test_patterns_that_ruin_other_matchers_are_nothing_special(pattern: str) -> None:
    text = walk(matcher({"type": "string", "pattern": pattern}), random.Random(0), max_tokens=100)
    assert text is None or json.loads(text)
