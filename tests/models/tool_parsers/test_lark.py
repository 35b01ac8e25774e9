"""Grammars of forced and of strict calls: whatever they allow is read back as calls that the schemas allow."""

import json
import random
from typing import Any

import llguidance
import numpy as np
import pytest

from models.tool_parsers.dialects import TOOL_PARSERS
from models.tool_parsers.lark import literal
from models.tool_parsers.parser import OfferedTool, ToolParser
from tests.models.tool_parsers.answers import read

DIALECTS = pytest.mark.parametrize("kind", TOOL_PARSERS.values(), ids=TOOL_PARSERS.keys())
TOKENIZER = llguidance.LLTokenizer("byte")
END_TOKEN_ID = TOKENIZER.eos_token

CITY: dict[str, Any] = {"type": "string", "enum": ["Ulm", 'the "old" town\n', "東京"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"city": CITY},
    },
    "no-args": {"type": "object", "properties": {}, "additionalProperties": False},
    "add": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"a": {"enum": [1, 2.5]}},
                "required": ["a"],
                "additionalProperties": False,
            }
        ]
    },
}
TOOLS = [
    OfferedTool(name, json.dumps({"x-guidance": {"whitespace_flexible": False}, **schema}))
    for name, schema in SCHEMAS.items()
]


def matcher(grammar: str) -> Any:
    found = llguidance.LLMatcher(TOKENIZER, llguidance.LLMatcher.grammar_from_lark(grammar))
    assert not found.is_error(), found.get_error()
    return found


def walk(running: Any, chance: random.Random) -> str:
    """A sentence, byte by byte at random; as soon as it may end it often does."""
    written = bytearray()
    while True:
        mask = np.frombuffer(running.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
        token_id = END_TOKEN_ID if END_TOKEN_ID in allowed and chance.random() < 0.5 else chance.choice(allowed)
        if token_id == END_TOKEN_ID:
            return written.decode()
        assert running.consume_token(token_id)
        written.append(token_id)


@DIALECTS
@pytest.mark.parametrize("is_parallel", [True, False])
def test_forced_sentences_are_calls(kind: type[ToolParser], is_parallel: bool) -> None:
    for seed in range(6):
        sentence = walk(matcher(kind.forced_grammar(TOOLS, literal, is_parallel=is_parallel)), random.Random(seed))
        answer = read(kind, sentence)
        assert answer.text == "", (seed, sentence)
        assert len(answer.values) == len(answer.calls) >= 1
        assert is_parallel or len(answer.calls) == 1
        for name, arguments in answer.values:
            check(name, arguments)


def check(name: str, arguments: dict[str, Any]) -> None:
    match name:
        case "weather":
            assert arguments.pop("city") in CITY["enum"]
            assert arguments.pop("days", 0) in range(10)
        case "add":
            assert arguments.pop("a") in (1, 2.5)
    assert arguments == {}


def accepts(kind: type[ToolParser], text: str, answer: str | None = None) -> bool:
    data = list(text.encode())
    running = matcher(kind.free_grammar(TOOLS, literal, is_parallel=True, answer=answer))
    return bool(running.try_consume_tokens(data) == len(data) and running.is_accepting())


@DIALECTS
def test_without_force_text_is_free_and_calls_are_not(kind: type[ToolParser]) -> None:
    assert accepts(kind, "")
    assert accepts(kind, "It is 5 < 6, [1] and {x}.\n")
    call = walk(matcher(kind.forced_grammar(TOOLS, literal, is_parallel=True)), random.Random(3))
    assert accepts(kind, call)
    assert accepts(kind, f"So: {call}")
    assert not accepts(
        kind, call.replace("Ulm", "Ull").replace("2.5", "3").replace("1", "3").replace("no-args", "none")
    )


@pytest.mark.parametrize("kind", [kind for kind in TOOL_PARSERS.values() if kind.is_opening_needed])
def test_an_answer_in_a_format_of_its_own_stands_beside_calls(kind: type[ToolParser]) -> None:
    answer = '%json {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}'
    call = walk(matcher(kind.forced_grammar(TOOLS, literal, is_parallel=True)), random.Random(4))
    assert accepts(kind, '{"x": 1}', answer)
    assert accepts(kind, call, answer)
    assert not accepts(kind, "It is 1.", answer)
    assert not accepts(kind, '{"x": "1"}', answer)


def test_a_special_token_opens_calls_where_the_tokenizer_has_one() -> None:
    grammar = TOOL_PARSERS["mistral"].free_grammar(TOOLS, lambda marker: f"<[7]>{marker}", is_parallel=True)
    assert grammar.startswith("start: PROSE (<[7]>[TOOL_CALLS] rest)?\n")
