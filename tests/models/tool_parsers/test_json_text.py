import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text_reader import Malformed, Reader
from models.tool_parsers.json_text import copy_object, read_string, skip_value

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def reader(text: str) -> Reader:
    found = Reader()
    found.append(text)
    found.end()
    return found


def copied(text: str) -> str:
    pieces: list[str] = []
    next(copy_object(reader(text), pieces.append), None)
    return "".join(pieces)


@settings(max_examples=100, deadline=None)
@given(value=st.dictionaries(st.text(), VALUES, max_size=4), indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_json_is_copied_as_it_is(value: object, indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    assert copied(text) == text


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from([*'{}[]:,"\\tfn0-1.eu \n', '"a"', "true", "null"]), max_size=12).map("".join))
def test_what_is_copied_whole_is_json(text: str) -> None:
    try:
        written = copied("{" + text)
    except Malformed:
        return
    assert isinstance(json.loads(written), dict)


@pytest.mark.parametrize(
    "text",
    ['{"a": 01}', '{"a": +1}', '{"a": .5}', '{"a": 1.}', '{"a": 1e}', '{"a": NaN}', '{"a": 1,}', "{'a': 1}", "{a: 1}",
     '{"a" 1}', '{"a": "\\x"}', '{"a": "\\u12g4"}', '{"a": tru }', "[]", "1", '{"a": [1}', '{"a": \u0661}'],
)  # fmt: skip
def test_what_is_no_json_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        copied(text)


def test_control_characters_in_strings_are_escaped() -> None:
    assert json.loads(copied('{"a": "x\ny\tz\x00"}')) == {"a": "x\ny\tz\x00"}


def test_strings_are_read_and_values_skipped() -> None:
    found = reader('"a\\u00fc\\n" rest')
    with pytest.raises(StopIteration) as stopped:
        next(read_string(found))
    assert stopped.value.value == "aü\n"
    skipped = reader('[1, {"a": null}] rest')
    next(skip_value(skipped), None)
    assert skipped.take_rest() == " rest"
