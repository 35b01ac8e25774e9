import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.control.page_tokens import PageTokens
from appliance.errors import Code, HearthError

TOKENS = PageTokens(b"k" * 32)
PLACES = st.lists(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10), max_size=4)


@given(st.text(alphabet="abc/?é", max_size=20), PLACES)
def test_a_place_is_read_as_it_was_issued_and_the_token_fits_into_a_url(list_name: str, place: list[object]) -> None:
    token = TOKENS.issue(list_name, place)
    assert TOKENS.read(token, list_name) == place
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=60))
def test_what_was_not_issued_is_refused(text: str) -> None:
    with pytest.raises(HearthError) as refused:
        TOKENS.read(text, "list")
    assert (refused.value.code, refused.value.param) == (Code.INVALID, "pageToken")


def test_a_token_fits_one_list_and_one_key() -> None:
    token = TOKENS.issue("boats", ["ada"])
    with pytest.raises(HearthError, match=r"^pageToken: "):
        TOKENS.read(token, "ships")
    with pytest.raises(HearthError, match=r"^pageToken: "):
        PageTokens(b"x" * 32).read(token, "boats")


@pytest.mark.parametrize("position", range(20))
def test_a_changed_token_is_refused(position: int) -> None:
    signed = bytearray(base64.urlsafe_b64decode(TOKENS.issue("boats", ["ada"]) + "=="))
    signed[position] ^= 1
    with pytest.raises(HearthError):
        TOKENS.read(base64.urlsafe_b64encode(signed).decode().rstrip("="), "boats")
