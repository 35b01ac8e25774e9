from typing import Any

import pytest

from models.tool_parsers.llama3_json import Llama3JsonParser
from tests.models.tool_parsers.answers import NONE, ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        ('{"name": "weather", "parameters": {"city": "Ulm"}}', "", [ULM]),
        (
            (
                '<|python_tag|>{"type": "function", "name": "weather", "parameters": {"city": "Ulm"}}; '
                '{"name": "no-args", "parameters": {}}'
            ),
            "",
            [ULM, NONE],
        ),
        ('Sure: <|python_tag|>{"name": "no-args"}', "Sure:", [NONE]),
        ('{"answer": 42}', '{"answer": 42}', []),
        ('Use {"name": "no-args"} please', 'Use {"name": "no-args"} please', []),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(Llama3JsonParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)
