import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.base64url import decode, encode

LETTERS = string.ascii_letters + string.digits + "-_"


@given(st.binary(max_size=40))
def test_what_is_written_is_read_and_fits_into_a_url(content: bytes) -> None:
    text = encode(content)
    assert decode(text) == content
    assert set(text) <= set(LETTERS)


@given(st.text(max_size=20) | st.text(LETTERS + "+/=", max_size=8))
def test_what_is_read_has_one_spelling(text: str) -> None:
    try:
        content = decode(text)
    except ValueError:
        return
    assert encode(content) == text


@pytest.mark.parametrize("other", ["+_8", "-/8", "-_9", "-_8=", "-_8 ", "é", "-"])
def test_another_spelling_is_refused(other: str) -> None:
    assert decode("-_8") == b"\xfb\xff"
    with pytest.raises(ValueError, match=r"spelling|base64|ASCII"):
        decode(other)
