import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import DatasetFormat
from appliance.services.dataset_formats import (
    BYTES_PER_TOKEN,
    NESTING_MAX,
    TOKENS_PER_MESSAGE,
    Example,
    Refused,
    check_example,
    detect_format,
    parse_line,
)

CHAT = {"messages": [{"role": "user", "content": "12345678"}, {"role": "assistant", "content": "1234"}]}
PROMPTS = {"messages": [{"role": "user", "content": "1234"}]}


def check(value: dict[str, Any], expected: DatasetFormat | None) -> Example:
    content = json.dumps(value).encode()
    return check_example(parse_line(content), content, expected)


def refusal(value: dict[str, Any], expected: DatasetFormat | None) -> str:
    with pytest.raises(Refused) as caught:
        check(value, expected)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": -Infinity}', "not valid JSON"),
        (b'{"a": 1e999}', "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 100_000, f"nested more than {NESTING_MAX} deep"),
        (b'{"a":' * NESTING_MAX + b"{}" + b"}" * NESTING_MAX, f"nested more than {NESTING_MAX} deep"),
    ],
)
def test_only_strict_json_objects_are_read(content: bytes, problem: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_line(content)
    assert str(caught.value).startswith(problem)


def test_many_brackets_are_not_yet_deep() -> None:
    assert parse_line(b'{"a": [' + b"{}," * 1000 + b"[]]}")
    assert parse_line(b'{"a":' * (NESTING_MAX - 1) + b"{}" + b"}" * (NESTING_MAX - 1))


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (CHAT, DatasetFormat.CHAT),
        (PROMPTS, DatasetFormat.RL),
        ({"messages": "x"}, DatasetFormat.RL),
        ({"prompt": "", "completion": ""}, DatasetFormat.COMPLETION),
        ({"text": "", "label": 1}, DatasetFormat.CLASSIFICATION),
        ({"instruction": "", "response": ""}, None),
        ({"custom_id": "1", "body": {"messages": []}}, None),
        ({"prompt": ""}, None),
    ],
)
def test_the_first_example_tells_the_format(example: dict[str, Any], expected: DatasetFormat | None) -> None:
    assert detect_format(example) is expected


def test_tokens_are_estimated_from_the_texts_a_model_would_read() -> None:
    assert check(CHAT, DatasetFormat.CHAT).num_tokens == 12 // BYTES_PER_TOKEN + 2 * TOKENS_PER_MESSAGE
    assert check({"prompt": "1234", "completion": "5"}, DatasetFormat.COMPLETION).num_tokens == 2
    assert check({"text": "été?", "label": "yes"}, DatasetFormat.CLASSIFICATION).num_tokens == 3
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    pictured = {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "1234"}]}]}
    assert check(pictured, DatasetFormat.RL).num_tokens == 1 + TOKENS_PER_MESSAGE
    assert check({"any": "12345"}, None).num_tokens == 4


def test_turns_are_what_users_say() -> None:
    assert check(CHAT, DatasetFormat.CHAT).num_turns == 1
    assert check({"messages": CHAT["messages"] * 3}, DatasetFormat.CHAT).num_turns == 3
    assert check({"prompt": "a", "completion": "b"}, DatasetFormat.COMPLETION).num_turns == 1


@pytest.mark.parametrize(
    ("example", "expected", "problem"),
    [
        ({}, DatasetFormat.CHAT, "messages: this field is required"),
        ({"messages": 1}, DatasetFormat.CHAT, "messages: expected array, got int"),
        ({"messages": [{"role": 5}]}, DatasetFormat.CHAT, "messages[0].role: expected str, got int"),
        ({"messages": [{"content": ""}]}, DatasetFormat.CHAT, "messages[0].role: this field is required"),
        (
            {"messages": [{"role": "user", "content": [{"type": "sound"}]}]},
            DatasetFormat.RL,
            "messages[0].content[0].type: 'sound' is not known here",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "a private sentence"}]}]},
            DatasetFormat.RL,
            "messages[0].content[0].type: this is not known here",
        ),
        ({"messages": PROMPTS["messages"], "tools": [{}]}, DatasetFormat.RL, "tools[0].function: this field is"),
        ({**CHAT, "weight": -2}, DatasetFormat.CHAT, "weight: must not be negative"),
        (PROMPTS, DatasetFormat.CHAT, "messages: at least one must have the role assistant"),
        ({"prompt": "a"}, DatasetFormat.COMPLETION, "completion: this field is required"),
        ({"prompt": ["a"], "completion": ""}, DatasetFormat.COMPLETION, "prompt: expected str, got array"),
        ({"text": "a", "label": None}, DatasetFormat.CLASSIFICATION, "label: expected bool | int | str, got null"),
    ],
)
def test_what_breaks_a_format_is_named(example: dict[str, Any], expected: DatasetFormat, problem: str) -> None:
    assert refusal(example, expected).startswith(problem)


def test_fields_that_nothing_uses_are_told_except_where_a_judge_may_want_them() -> None:
    assert check({**CHAT, "wieght": 1, "tools": []}, DatasetFormat.CHAT).ignored == {"wieght"}
    assert check({**PROMPTS, "ground_truth": 4}, DatasetFormat.RL).ignored == frozenset()
    assert check({"anything": 4}, None).ignored == frozenset()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "user", "assistant", "tool"]) | JSON_VALUES,
            "content": JSON_VALUES,
            "tool_calls": JSON_VALUES,
            "weight": JSON_VALUES,
        },
    ),
    max_size=4,
)
FIELDS = st.sampled_from(["messages", "prompt", "completion", "text", "label", "tools", "weight"]) | st.text(max_size=3)


@given(
    example=st.dictionaries(FIELDS, JSON_VALUES | MESSAGES, max_size=4),
    expected=st.sampled_from([None, *DatasetFormat]),
)
def test_any_object_is_an_example_or_refused_with_a_reason(
    example: dict[str, Any], expected: DatasetFormat | None
) -> None:
    content = json.dumps(example).encode()
    reason = None
    try:
        checked = check_example(parse_line(content), content, expected)
        assert checked.num_tokens >= 0
        assert expected is not None or checked.ignored == frozenset()
    except Refused as refused:
        reason = str(refused)
    assert reason is None or 0 < len(reason) < 500
