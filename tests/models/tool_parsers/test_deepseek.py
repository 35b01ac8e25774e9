from typing import Any

import pytest

from models.tool_parsers.deepseek import DeepSeekParser
from tests.models.tool_parsers.answers import NONE, ULM, read


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        (
            (
                "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
                '{"city": "Ulm"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>no-args\n```json\n'
                "{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            ),
            "I look.",
            [ULM, NONE],
        ),
        (
            (
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
                '{"city": "Ulm"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>no-args<｜tool▁sep｜>{}<｜tool▁call▁end｜>'
            ),
            "",
            [ULM, NONE],
        ),
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>evil<｜tool▁sep｜>{}",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>evil<｜tool▁sep｜>{}",
            [],
        ),
    ],
)
def test_calls_are_read_as_models_write_them(written: str, text: str, calls: list[tuple[str, Any]]) -> None:
    answer = read(DeepSeekParser, written)
    assert (answer.text, answer.values) == (text, calls)
    assert len(answer.calls) == len(calls)
