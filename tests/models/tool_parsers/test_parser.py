"""What holds for every dialect: cuts do not matter, nothing is lost, arguments are JSON."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text_reader import Text
from models.tool_parsers.dialects import TOOL_PARSERS
from models.tool_parsers.parser import Arguments, CallBegins, ToolParser
from tests.models.tool_parsers.answers import Answer, events, read

DIALECTS = pytest.mark.parametrize("kind", TOOL_PARSERS.values(), ids=TOOL_PARSERS.keys())

FRAGMENTS = [
    *sorted({marker for kind in TOOL_PARSERS.values() for marker in (*kind.markers, *kind.openings)}),
    '{"name": "weather", "arguments": {"city": "Ulm\\u0041\\n"}}',
    '{"parameters": {"a": [1, -2.5e3, {"b": null}]}, "name": "add"}',
    '{"name": "add", "arguments": "{\\"a\\": 1}"}',
    '{"name": "unknown", "arguments": {}}',
    '{"name": "no-args"}',
    '{"a": {"b": [true, false]}}',
    "weather(city=\"Ulm\", days=[1, 2.5], x={'k': None})",
    "weather(**{})",
    "function",
    "weather",
    "```json\n",
    "```",
    *"[]{}();,:=\"'\\<>|- \n1e.tn",
    '"name"',
    '"arguments"',
    "café 🔥",
]
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=14).map("".join)


def cut(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({end % (len(text) + 1) for end in cuts})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@DIALECTS
@settings(max_examples=80, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 500), max_size=8))
def test_where_the_text_is_cut_does_not_matter(kind: type[ToolParser], text: str, cuts: list[int]) -> None:
    whole = events(kind, [text])
    assert events(kind, list(text)) == whole
    assert events(kind, cut(text, cuts)) == whole


@DIALECTS
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_an_answer_without_calls_is_unchanged_and_complete_arguments_are_json(
    kind: type[ToolParser], text: str
) -> None:
    answer = read(kind, text)
    if not answer.calls:
        assert answer.text == text
    for _, arguments in answer.values:
        assert isinstance(arguments, dict)


@DIALECTS
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, prefix_length=st.integers(0, 300))
def test_what_was_said_is_never_taken_back(kind: type[ToolParser], text: str, prefix_length: int) -> None:
    parser = kind(frozenset({"weather", "add", "no-args"}))
    said = [*parser.feed(text[:prefix_length])]
    shown = "".join(event.text for event in said if isinstance(event, Text))
    begun = [event.name for event in said if isinstance(event, CallBegins)]
    whole = read(kind, text)
    assert whole.text.startswith(shown)
    assert [call.name for call in whole.calls[: len(begun)]] == begun


@DIALECTS
def test_plain_text_streams_without_delay(kind: type[ToolParser]) -> None:
    parser = kind(frozenset({"weather"}))
    said = [parser.feed(word) for word in ("Hello", " there", " friend.")]
    assert said == [[Text("Hello")], [Text(" there")], [Text(" friend.")]]


def test_arguments_stream_while_they_are_written() -> None:
    parser = TOOL_PARSERS["hermes"](frozenset({"weather"}))
    parser.feed('<tool_call>{"name": "weather", "arguments": {"ci')
    assert parser.feed('ty": "Ul') == [Arguments('ty": "Ul')]


@DIALECTS
@pytest.mark.parametrize(
    "unit", [" ", "\n", "[", "{", '{"a":', "<", "<tool_call>", '<tool_call>{"x":"', "(", "\\", '"']
)
def test_hostile_text_takes_linear_time(kind: type[ToolParser], unit: str) -> None:
    opening = kind.openings[0]
    for text in (
        unit * 20_000,
        opening + unit * 20_000,
        opening + '{"name": "weather", "arguments": {"a": "' + unit * 5_000,
    ):
        began = time.process_time()
        answer = read(kind, *(text[start : start + 50] for start in range(0, len(text), 50)))
        assert time.process_time() - began < 5
        if not answer.calls:
            assert answer.text == text


def test_nesting_is_limited() -> None:
    deep = '<tool_call>{"name": "add", "arguments": {"a": ' + "[" * 100_000
    answer = read(TOOL_PARSERS["hermes"], deep)
    assert not answer.calls[0].is_complete
    assert answer.calls[0].arguments + answer.text == deep.removeprefix('<tool_call>{"name": "add", "arguments": ')


def test_a_call_that_breaks_off_keeps_what_there_is() -> None:
    answer = read(TOOL_PARSERS["hermes"], '<tool_call>{"name": "add", "arguments": {"a": tru')
    assert answer == Answer("", [("add", '{"a": tru', False)])  # type: ignore[list-item]


def test_a_call_that_goes_wrong_half_way_goes_on_as_text() -> None:
    answer = read(TOOL_PARSERS["hermes"], '<tool_call>{"name": "add", "arguments": {"a": xyz}}</tool_call> done')
    assert (answer.calls[0].arguments, answer.calls[0].is_complete) == ('{"a": ', False)
    assert answer.text == "xyz}}</tool_call> done"


def test_line_breaks_inside_strings_are_escaped() -> None:
    answer = read(TOOL_PARSERS["hermes"], '<tool_call>{"name": "add", "arguments": {"a": "x\ny\t\x01"}}</tool_call>')
    assert answer.values == [("add", {"a": "x\ny\t\x01"})]


def test_arguments_written_into_a_string_are_read() -> None:
    inner = json.dumps({"a": "ü"})
    answer = read(TOOL_PARSERS["hermes"], "<tool_call>" + json.dumps({"name": "add", "arguments": inner}))
    assert answer.values == [("add", {"a": "ü"})]


def test_deep_arguments_in_a_string_are_no_call() -> None:
    text = "<tool_call>" + json.dumps({"name": "add", "arguments": '{"a":' * 5000 + "1" + "}" * 5000}) + "</tool_call>"
    assert read(TOOL_PARSERS["hermes"], text) == Answer(text, [])


@pytest.mark.parametrize("arguments", ['"x"', "[]", "1", '"[1]"', '"{"'])
def test_arguments_that_are_no_object_are_no_call(arguments: str) -> None:
    text = f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'
    assert read(TOOL_PARSERS["hermes"], text) == Answer(text, [])


def test_a_function_that_nobody_offered_is_no_call() -> None:
    text = '<tool_call>{"name": "remove_all", "arguments": {}}</tool_call>'
    assert read(TOOL_PARSERS["hermes"], text) == Answer(text, [])
