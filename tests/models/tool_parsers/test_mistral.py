from typing import Any

import pytest

from models.tool_parsers.mistral import MistralParser
from tests.models.tool_parsers.answers import NONE, ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        (
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Ulm"}, "id": "abcdefghi"}, {"name": "no-args"}]',
            "",
            [ULM, NONE],
        ),
        ('Well.[TOOL_CALLS]weather[ARGS]{"city": "Ulm"}[TOOL_CALLS]no-args{}', "Well.", [ULM, NONE]),
        ('[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{"city": "Ulm"}', "", [ULM]),
        ("[TOOL_CALLS] nothing", "[TOOL_CALLS] nothing", []),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(MistralParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)


def test_ids_are_of_nine_letters_and_digits() -> None:
    assert MistralParser.call_id("abcDEF123") == "abcDEF123"
    made = MistralParser.call_id("call_0123456789")
    assert len(made) == 9
    assert made.isalnum()
    assert MistralParser.call_id(made) == made
