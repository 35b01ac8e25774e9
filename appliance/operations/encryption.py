"""Backups sealed with age while they stream: to public keys, or with a passphrase.

age has no stream for a passphrase, so that seals an identity made for this one file, in armour before the rest:
`sed '/^-----END/q' FILE | age --decrypt` shows the identity, which opens what follows. Whole files in memory: never.
"""

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import pyrage

from appliance.errors import Code, HearthError

PIECE_BYTES = 1024 * 1024
ARMOUR_BEGINS = b"-----BEGIN AGE ENCRYPTED FILE-----"
ARMOUR_ENDS = b"-----END AGE ENCRYPTED FILE-----"
AGE_BEGINS = b"age-encryption.org/v1"
_ARMOUR_BYTES_MAX = 16 * 1024
_AGE_ERRORS = (pyrage.DecryptError, pyrage.EncryptError, pyrage.IdentityError, pyrage.RecipientError)


class Lock(NamedTuple):
    """Who can open a backup: holders of identities, or those who know a passphrase."""

    recipients: Sequence[str] = ()
    passphrase: str | None = None


class Key(NamedTuple):
    """What a backup is opened with."""

    identity_file: Path | None = None
    passphrase: str | None = None


@contextmanager
def sealing(file: BinaryIO, lock: Lock) -> Iterator[IO[bytes]]:
    """What is written to what this yields arrives in `file` encrypted; all of it, when this ends without an error."""
    recipients = [_read_recipient(text) for text in lock.recipients]
    if lock.passphrase is not None:
        identity = pyrage.x25519.Identity.generate()
        file.write(pyrage.passphrase.encrypt(str(identity).encode(), lock.passphrase, armored=True))
        recipients = [identity.to_public()]
    source, sink = _pipe()
    beside = _Beside(lambda: pyrage.encrypt_io(source, file, recipients), source)
    try:
        with sink:
            yield sink
    except BrokenPipeError:
        pass  # the other side has ended, and says why
    finally:
        beside.join()
    if beside.error is not None:
        raise OSError(f"cannot encrypt: {beside.error}") from beside.error


@contextmanager
def opened(file: io.BufferedReader, key: Key) -> Iterator[IO[bytes]]:
    """The content of a backup, sealed or not. All of it was authentic when this ends without an error.

    Raises `failed_precondition` for a missing or wrong key, and for a sealed file that was changed or cut off.
    """
    beginning = file.peek(len(ARMOUR_BEGINS))
    if not beginning.startswith((ARMOUR_BEGINS, AGE_BEGINS)):
        yield file
        return
    try:
        identities = _unlock(file, key) if beginning.startswith(ARMOUR_BEGINS) else _read_identities(key)
    except (*_AGE_ERRORS, ValueError) as error:
        raise _refusal(f"it cannot be opened with this key: {error}") from error
    source, sink = _pipe()
    beside = _Beside(lambda: pyrage.decrypt_io(file, sink, identities), sink)
    try:
        with source:
            yield source
            while source.read(PIECE_BYTES):
                pass  # only the end tells that nothing was cut off
    finally:
        beside.join()
        # It explains what the reader ran into; unless it was the reader who left.
        if beside.error is not None and not isinstance(beside.error, BrokenPipeError):
            raise _refusal(f"it was changed, is cut off, or is for another key: {beside.error}") from beside.error


class _Beside(threading.Thread):
    """age works at one end of a pipe while the caller works at the other."""

    def __init__(self, work: Callable[[], None], end: IO[bytes]) -> None:
        super().__init__(name="age")
        self.error: Exception | None = None
        self._work = work
        self._end = end
        self.start()

    def run(self) -> None:
        try:
            with self._end:
                self._work()
        except (*_AGE_ERRORS, OSError) as error:
            self.error = error


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    read_end, write_end = os.pipe()
    return open(read_end, "rb", PIECE_BYTES), open(write_end, "wb", PIECE_BYTES)


def _read_recipient(text: str) -> pyrage.x25519.Recipient | pyrage.ssh.Recipient:
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text)
    except pyrage.RecipientError as error:
        message = f"the recipient {text!r} is no public key of age (age1…) or SSH: {error}"
        raise HearthError(Code.INVALID, message, "recipient") from error


def _read_identities(key: Key) -> list[pyrage.x25519.Identity | pyrage.ssh.Identity]:
    """From a file as age-keygen writes it, or a private key of SSH without a passphrase."""
    if key.identity_file is None:
        raise _refusal("it is encrypted to a public key: give the identity that belongs to it with --identity FILE")
    content = key.identity_file.read_bytes()
    if content.startswith(b"-----BEGIN"):
        return [pyrage.ssh.Identity.from_buffer(content)]
    lines = [line.strip() for line in content.decode().splitlines()]
    return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]


def _unlock(file: io.BufferedReader, key: Key) -> list[pyrage.x25519.Identity]:
    """Reads the armour and nothing beyond it."""
    if key.passphrase is None:
        raise _refusal("it is encrypted with a passphrase: give the file that holds it with --passphrase-file FILE")
    armour = b""
    while not armour.endswith(ARMOUR_ENDS + b"\n"):
        line = file.readline(_ARMOUR_BYTES_MAX)
        armour += line
        if not line or len(armour) > _ARMOUR_BYTES_MAX:
            raise _refusal("it is cut off")
    sealed = pyrage.passphrase.decrypt(armour, key.passphrase)
    return [pyrage.x25519.Identity.from_str(sealed.decode())]


def _refusal(problem: str) -> HearthError:
    return HearthError(Code.FAILED_PRECONDITION, problem)
