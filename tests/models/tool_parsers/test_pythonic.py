from typing import Any

import pytest

from models.tool_parsers.pythonic import PythonicParser
from tests.models.tool_parsers.answers import NONE, SUM, ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        ('[weather(city="Ulm"), add(a=1, b=[2.5, None, True]), no-args()]', "", [ULM, SUM, NONE]),
        ("<|python_start|>[weather(city='Ulm',)]<|python_end|>", "", [ULM]),
        (
            "[add(a={'k': 'it\\'s \\u00fc \"q\"', 'l': (1, -2e3), }, b=[], c=false)]",
            "",
            [("add", {"a": {"k": 'it\'s ü "q"', "l": [1, -2e3]}, "b": [], "c": False})],
        ),
        ('[weather(**{"city": "Ulm"})]', "", [ULM]),
        ("[1, 2, 3] is a list", "[1, 2, 3] is a list", []),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(PythonicParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)
