"""Strict JSON, and refusals that name the field. Bodies over a real socket are in test_app.py."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.codec import Int64, decode_json, ignored_fields
from appliance.errors import Code, HearthError


class Inner(msgspec.Struct):
    role: Literal["user", "system"]
    weight: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1.0


class Outer(msgspec.Struct, rename="camel"):
    model: str
    messages: list[Inner] = []
    max_tokens: Int64 | None = None
    metadata: dict[str, str] | None = None
    biases: dict[Annotated[int, msgspec.Meta(ge=0)], float] = {}
    anything: Any = None


def refused(body: bytes) -> HearthError:
    with pytest.raises(HearthError) as caught:
        decode_json(body, Outer)
    assert caught.value.code is Code.INVALID
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{}", "model", "required"),
        (b'{"model":1}', "model", "expected str, got int"),
        (b'{"model":"m","messages":[{"role":"user"},{}]}', "messages[1].role", "required"),
        (b'{"model":"m","messages":[{"role":"nobody"}]}', "messages[0].role", "nobody"),
        (b'{"model":"m","messages":[{"role":"user","weight":3}]}', "messages[0].weight", "<= 2"),
        (b'{"model":"m","maxTokens":"1"}', "maxTokens", "got str"),
        (b'{"model":"m","maxTokens":true}', "maxTokens", "got bool"),
        (b'{"model":"m","maxTokens":1.5}', "maxTokens", "got float"),
        (b'{"model":"m","maxTokens":9223372036854775808}', "maxTokens", "<="),
        (b'{"model":"m","messages":[{"role":"user","weight":1e400}]}', "messages[0].weight", "range"),
        (b'{"model":"m","metadata":{"a":1}}', "metadata[...]", "expected str"),
        (b"[1]", None, "expected object"),
        (b"", None, "truncated"),
        (b'{"model":"m"', None, "truncated"),
        (b'{"model":NaN}', "model", "finite number"),
        (b'{"model":"m","messages":[{"role":"user","weight":-Infinity}]}', "messages[0].weight", "finite number"),
        (b"NaN", None, "not valid JSON"),
        (b'{"model":"NaN"', None, "truncated"),
        (b'{"model":"m","biases":{"-1":1}}', "biases", ">= 0"),
        (b'{"model":"m","biases":{"one":1}}', "biases", "expected int"),
        (b'{"model":"\\ud800"}', None, "not valid JSON"),
        (b'{"model":"m","unknown":"\\ud800"}', None, "not valid JSON"),
        (b'{"model":"\xff"}', None, "UTF-8"),
        (b'{"model":"m","unknown":"\xff"}', None, "UTF-8"),
        (b'\xef\xbb\xbf{"model":"m"}', None, "not valid JSON"),
        ('{"model":"m"}'.encode("utf-16"), None, "UTF-8"),
        (b'{"model":"m","anything":' + b"[" * 100_000, None, "nested too deeply"),
        (b'{"model":"m","unknown":' + b'{"a":' * 100_000, None, "nested too deeply"),
    ],
)
def test_refusal_names_the_field_in_the_words_of_the_client(body: bytes, param: str | None, words: str) -> None:
    error = refused(body)
    assert error.param == param
    assert words in error.message
    assert "`" not in error.message
    assert "$" not in error.message


def test_good_body_is_decoded_and_unknown_fields_do_not_matter() -> None:
    body = decode_json(b'{"model":"m","maxTokens":null,"store":false,"messages":[{"role":"user"}]}', Outer)
    assert body == Outer(model="m", messages=[Inner(role="user")])


def test_ignored_fields_are_listed_fit_for_a_header() -> None:
    body = b'{"model":"m","store":true,"max_tokens":1,"a b\\r\\n\xc3\xa9":1}'
    assert ignored_fields(body, Outer) == "store, max_tokens, a%20b%0D%0A%C3%A9"


def test_list_of_ignored_fields_is_short() -> None:
    body = msgspec.json.encode({"x" * 500 + str(i): i for i in range(1000)})
    assert len(ignored_fields(body, Outer)) < 2000


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_invalid(body: bytes) -> None:
    try:
        decode_json(body, Outer)
    except HearthError as error:
        is_invalid = error.code is Code.INVALID
    else:
        is_invalid = True
    assert is_invalid
