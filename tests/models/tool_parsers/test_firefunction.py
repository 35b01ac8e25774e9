from typing import Any

import pytest

from models.tool_parsers.firefunction import FireFunctionParser
from tests.models.tool_parsers.answers import ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        (' functools[{"name": "weather", "arguments": {"city": "Ulm"}}]', "", [ULM]),
        ('<functioncall> {"name": "weather", "arguments": "{\\"city\\": \\"Ulm\\"}"}', "", [ULM]),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(FireFunctionParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)
