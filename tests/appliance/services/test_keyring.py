from pathlib import Path

import pytest

from appliance.errors import Code, HearthError
from appliance.services.keyring import KEY_BYTES, Keyring, load_keyring

KEYRING = Keyring(bytes(range(KEY_BYTES)))


def test_each_purpose_has_a_key_of_its_own_and_always_the_same() -> None:
    assert KEYRING.derive("audit/v1") == KEYRING.derive("audit/v1")
    assert len({KEYRING.derive("audit/v1"), KEYRING.derive("audit/v2"), KEYRING.derive("secrets/v1")}) == 3
    assert KEYRING.derive("audit/v1") != Keyring(bytes(KEY_BYTES)).derive("audit/v1")


def test_what_is_sealed_opens_where_it_belongs() -> None:
    sealed = KEYRING.seal("secrets/v1", b"a value", bound_to="accounts/a/secrets/s")
    assert b"a value" not in sealed
    assert KEYRING.unseal("secrets/v1", sealed, bound_to="accounts/a/secrets/s") == b"a value"
    assert KEYRING.seal("secrets/v1", b"a value", bound_to="accounts/a/secrets/s") != sealed


@pytest.mark.parametrize("how", ["moved", "other purpose", "other master key", "flipped bit", "cut short"])
def test_what_was_tampered_with_is_refused(how: str) -> None:
    place = "accounts/a/secrets/s"
    sealed = KEYRING.seal("secrets/v1", b"a value", bound_to=place)
    keyring = Keyring(bytes(KEY_BYTES)) if how == "other master key" else KEYRING
    purpose = "secrets/v2" if how == "other purpose" else "secrets/v1"
    if how == "flipped bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(HearthError) as refused:
        keyring.unseal(
            purpose,
            sealed[:5] if how == "cut short" else sealed,
            bound_to="accounts/b/secrets/s" if how == "moved" else place,
        )
    assert refused.value.code is Code.FAILED_PRECONDITION


def test_the_master_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "master-key"
    first = load_keyring(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_keyring(path).derive("audit/v1") == first.derive("audit/v1")


def test_a_damaged_master_key_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "master-key"
    path.write_bytes(b"short")
    with pytest.raises(HearthError, match="has 5 bytes, not 32"):
        load_keyring(path)
    assert path.read_bytes() == b"short"
