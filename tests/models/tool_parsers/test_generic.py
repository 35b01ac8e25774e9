from typing import Any

import pytest

from models.tool_parsers.generic import GenericParser
from tests.models.tool_parsers.answers import NONE, ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        ('{"name": "weather", "arguments": {"city": "Ulm"}}', "", [ULM]),
        ('```json\n[{"name": "weather", "parameters": {"city": "Ulm"}}, {"name": "no-args"}]\n```', "", [ULM, NONE]),
        ('```python\nprint("x")\n```', '```python\nprint("x")\n```', []),
        ('<tool_call>{"name": "no-args"}</tool_call>', "", [NONE]),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(GenericParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)
