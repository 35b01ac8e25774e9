"""The master key and what is derived from it: a sub-key per purpose, and sealed boxes for what nobody may read at rest.

The master key itself never leaves this module. A sub-key that leaks tells nothing of the others.
"""

import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import Code, HearthError
from appliance.store.durable_files import write_private

KEY_BYTES = 32
_NONCE_BYTES = 12


class Keyring:
    """Purposes carry a version, `audit/v1`, so that one can be renewed without the others."""

    def __init__(self, master_key: bytes) -> None:
        self._master_key = master_key

    def derive(self, purpose: str) -> bytes:
        """32 bytes by HKDF-SHA256 (RFC 5869)."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"hearth {purpose}".encode()).derive(self._master_key)

    def seal(self, purpose: str, plaintext: bytes, bound_to: str) -> bytes:
        """AES-256-GCM: a nonce of 12 bytes, then the ciphertext. Opens only where `bound_to` is the same."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.derive(purpose)).encrypt(nonce, plaintext, bound_to.encode())

    def unseal(self, purpose: str, sealed: bytes, bound_to: str) -> bytes:
        """Raises `failed_precondition` when it was changed, moved, or sealed under another master key."""
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return AESGCM(self.derive(purpose)).decrypt(nonce, ciphertext, bound_to.encode())
        except (InvalidTag, ValueError) as error:
            raise HearthError(
                Code.FAILED_PRECONDITION, f"{bound_to} cannot be opened with this master key, or was changed"
            ) from error


def load_keyring(path: Path, may_make: bool = True) -> Keyring:
    """Of the master key at `path`, which is made if there is none; raises `failed_precondition` for a bad file.

    `may_make` False: there is something already that was sealed or signed with one, so a new one would be wrong.
    """
    try:
        if not path.exists():
            if not may_make:
                message = f"the master key {path} is missing; without it what this data directory holds cannot be read"
                raise HearthError(Code.FAILED_PRECONDITION, f"{message}: put it back", reason="MASTER_KEY_MISSING")
            write_private(path, secrets.token_bytes(KEY_BYTES))
        master_key = path.read_bytes()
    except OSError as error:
        raise HearthError(Code.FAILED_PRECONDITION, f"cannot use the master key {path}: {error.strerror}") from error
    if len(master_key) != KEY_BYTES:
        raise HearthError(
            Code.FAILED_PRECONDITION, f"the master key {path} has {len(master_key)} bytes, not {KEY_BYTES}"
        )
    return Keyring(master_key)
