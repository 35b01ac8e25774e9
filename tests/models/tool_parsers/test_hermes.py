from typing import Any

import pytest

from models.tool_parsers.hermes import HermesParser
from tests.models.tool_parsers.answers import NONE, SUM, ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        ('<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}\n</tool_call>', "", [ULM]),
        (
            (
                'Let me see.\n\n<tool_call>{"name": "weather", "arguments": {"city": "Ulm"}}</tool_call>\n<tool_call>'
                '{"arguments": {"a": 1, "b": [2.5, null, true]}, "name": "add"}</tool_call>\n'
            ),
            "Let me see.",
            [ULM, SUM],
        ),
        ('<tool_call>{"name": "no-args"}</tool_call>Done.', "Done.", [NONE]),
        ('<tool_call>{"name": "no-args", "arguments": null}', "", [NONE]),
        ('<tool_call>{"name": weather</tool_call> x', '<tool_call>{"name": weather</tool_call> x', []),
        (
            '<tool_call>oops</tool_call>\n<tool_call>{"name": "no-args", "arguments": {}}</tool_call>',
            "<tool_call>oops</tool_call>",
            [NONE],
        ),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(HermesParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)
