import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.services.grants import Grant, check_filename, check_paths, sign, verify

KEY = b"k" * 32
GRANT = Grant("models", "acme", "poet", "d1", "model.safetensors", True, 10, False, 1000.0)


def test_a_signed_url_gives_back_what_it_allows() -> None:
    assert verify(sign(GRANT, KEY), "model.safetensors", True, KEY, now=999.9) == GRANT


@pytest.mark.parametrize(
    ("filename", "is_upload", "key", "now"),
    [
        ("config.json", True, KEY, 0.0),
        ("model.safetensors", False, KEY, 0.0),
        ("model.safetensors", True, b"x" * 32, 0.0),
        ("model.safetensors", True, KEY, 1000.0),
    ],
)
def test_another_file_direction_or_key_and_a_later_time_are_refused(
    filename: str, is_upload: bool, key: bytes, now: float
) -> None:
    with pytest.raises(HearthError) as caught:
        verify(sign(GRANT, KEY), filename, is_upload, key, now)
    assert caught.value.code is Code.FORBIDDEN


@given(st.data())
def test_no_changed_token_is_accepted(data: st.DataObject) -> None:
    token = sign(GRANT, KEY)
    position = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != token[position]))
    with pytest.raises(HearthError):
        verify(token[:position] + other + token[position + 1 :], GRANT.filename, True, KEY, now=0.0)


def test_no_token_has_another_spelling() -> None:
    """The other alphabet's letters, padding, and last letters that differ in bits which carry nothing."""
    grants = [msgspec.structs.replace(GRANT, size_bytes=2**32 + size, filename="a" * length)
              for size in range(20) for length in (1, 2, 3)]  # fmt: skip
    for grant in grants:
        token = sign(grant, KEY)
        verify(token, grant.filename, True, KEY, now=0.0)
        others = {token.replace("-", "+"), token.replace("_", "/"), token + "=" * (-len(token) % 4)}
        if len(token) % 4:
            others |= {token[:-1] + letter for letter in string.ascii_letters + string.digits + "-_"}
        for other in others - {token}:
            with pytest.raises(HearthError) as caught:
                verify(other, grant.filename, True, KEY, now=0.0)
            assert caught.value.code is Code.FORBIDDEN


@pytest.mark.parametrize("token", ["", "=", "a", "aaaa", "é", "\0", "../../etc", "A" * 10_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(HearthError) as caught:
        verify(token, GRANT.filename, True, KEY, now=0.0)
    assert caught.value.code is Code.FORBIDDEN


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "config.json", "README.md", "_x", "a" * 200])
def test_plain_file_names_are_taken(name: str) -> None:
    check_filename(name, "filenameToSize")


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".gitattributes", "a/b", "/etc/passwd", "..%2fx", "a\\b", "a\0b", "a b", "é", "-rf", "a\n"),
        *("a" * 201, "\u202egnp.exe", "config.json.gz", "config.json.br"),
    ],
)
def test_file_names_that_lead_elsewhere_or_hide_another_are_refused(name: str) -> None:
    with pytest.raises(HearthError) as caught:
        check_filename(name, "filenameToSize")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "filenameToSize")


def test_a_file_may_lie_in_a_few_folders_with_plain_names() -> None:
    check_paths(["model_index.json", "unet/config.json", "controlnet/canny/config.json"], "filenameToSize")


@pytest.mark.parametrize(
    "paths",
    [
        *(["a/../b"], ["/a"], ["a/"], ["a//b"], ["a/.git"], ["a/b/c/d"], ["a/b.gz"], ["a b/c"], ["a\\b/c"]),
        ["unet", "unet/config.json"],
        ["controlnet/canny", "controlnet/canny/config.json"],
    ],
)
def test_paths_that_lead_elsewhere_or_through_a_file_are_refused(paths: list[str]) -> None:
    with pytest.raises(HearthError) as caught:
        check_paths(paths, "filenameToSize")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "filenameToSize")
