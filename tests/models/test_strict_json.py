import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.strict_json import DuplicateKey, MalformedJson, parse_object

BUSY_MACHINE = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def parse(text: str | bytes) -> dict[str, object]:
    return parse_object(text.encode() if isinstance(text, str) else text, values_max=1000)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("{} x", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": 1e400}', "out of range"),
        ('{"a": 1' + "0" * 5000 + "}", "digits"),
        (r'{"a": "\ud800"}', "surrogate"),
        (r'{"\udfff": 1}', "surrogate"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "more than 1000 values"),
        ('{"a":[' + "[]," * 2000 + "1]}", "more than 1000 values"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
    ],
)
def test_malformed_text_is_refused_and_named(text: str | bytes, complaint: str) -> None:
    with pytest.raises(MalformedJson, match=complaint):
        parse(text)


def test_nesting_beyond_the_interpreter_is_refused_not_fatal() -> None:
    with pytest.raises(MalformedJson, match="nested too deeply"):
        parse_object(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", values_max=1_000_000)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"x": {"b": 1, "c": 2, "b": 3}}', r'{"a": 1, "\u0061": 2}'])
def test_a_repeated_key_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(DuplicateKey):
        parse(text)


def test_a_paired_surrogate_escape_is_one_character() -> None:
    assert parse(r'{"a": "\ud83d\udd25"}') == {"a": "🔥"}


def test_large_numbers_of_released_configs_are_read() -> None:
    assert parse('{"model_max_length": 1000000000000000019884624838656}') == {
        "model_max_length": 1000000000000000019884624838656
    }


@BUSY_MACHINE
@given(st.dictionaries(st.text(), JSON_VALUES))
def test_what_is_well_formed_is_read_as_the_standard_library_reads_it(value: dict[str, object]) -> None:
    text = json.dumps(value)
    assert parse_object(text.encode(), values_max=10_000) == json.loads(text)


@BUSY_MACHINE
@given(st.binary())
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    complaint = ""
    try:
        parse_object(data, values_max=1000)
    except MalformedJson as error:
        complaint = str(error)
    assert len(complaint) < 300
