import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.services.key_format import format_key, generate_key, parse_key


def test_a_key_has_a_public_id_a_long_secret_and_a_check() -> None:
    parts = generate_key()
    key = format_key(parts)
    assert re.fullmatch(r"fw_[a-z2-7]{12}_[0-9A-Za-z]{49}", key)
    assert parse_key(key) == parts
    assert parts.secret_sha256 == hashlib.sha256(parts.secret.encode()).digest()
    assert generate_key() != parts


@given(st.data())
def test_every_single_mistyped_character_is_noticed(data: st.DataObject) -> None:
    key = format_key(generate_key())
    position = data.draw(st.integers(3, len(key) - 1))
    other = data.draw(st.sampled_from("0aZ_b7"))
    mistyped = key[:position] + other + key[position + 1 :]
    assert (parse_key(mistyped) is None) == (mistyped != key)


@pytest.mark.parametrize(
    "key", ["", "fw_", "sk-abc", "' OR 1=1 --", "fw_\0", "fw_" + "é" * 62, "fw_" + "a" * 1_000_000, "\ud800"]
)
def test_what_is_no_key_of_ours_is_no_key(key: str) -> None:
    assert parse_key(key) is None


def test_nothing_may_surround_a_key() -> None:
    key = format_key(generate_key())
    assert parse_key(key + "\n") is None
    assert parse_key(" " + key) is None
