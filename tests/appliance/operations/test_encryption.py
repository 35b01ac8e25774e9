"""Sealed while it streams, opened by the right key only, and never mistaken for whole when it is not."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import pyrage
import pytest

from appliance.errors import HearthError
from appliance.operations.encryption import Key, Lock, opened, sealing

CONTENT = bytes(range(256)) * 2000
IDENTITY = pyrage.x25519.Identity.generate()


def sealed(lock: Lock, content: bytes = CONTENT) -> bytes:
    file = io.BytesIO()
    with sealing(file, lock) as sink:
        sink.write(content)
    return file.getvalue()


def read(content: bytes, key: Key) -> bytes:
    with opened(io.BufferedReader(io.BytesIO(content)), key) as source:
        return source.read()


@pytest.fixture
def key(tmp_path: Path) -> Key:
    (tmp_path / "identity").write_text(f"# created: today\n{IDENTITY}\n")
    return Key(identity_file=tmp_path / "identity")


@pytest.fixture(scope="module")
def with_passphrase() -> bytes:
    return sealed(Lock(passphrase="correct horse"))


RECIPIENT = Lock(recipients=[str(IDENTITY.to_public())])


def test_what_is_sealed_to_a_recipient_his_identity_opens(key: Key) -> None:
    content = sealed(RECIPIENT)
    assert CONTENT[:100] not in content
    assert read(content, key) == CONTENT
    assert pyrage.decrypt(content, [IDENTITY]) == CONTENT  # any age opens it


def test_every_one_of_several_recipients_opens_it(key: Key) -> None:
    others = [str(pyrage.x25519.Identity.generate().to_public()) for _ in range(2)]
    assert read(sealed(Lock(recipients=[*others, *RECIPIENT.recipients])), key) == CONTENT


def test_what_is_sealed_with_a_passphrase_the_passphrase_opens(with_passphrase: bytes) -> None:
    """Once only: deriving a key of a passphrase is slow on purpose."""
    assert CONTENT[:100] not in with_passphrase
    assert read(with_passphrase, Key(passphrase="correct horse")) == CONTENT


def test_a_missing_key_is_named_by_its_option(with_passphrase: bytes) -> None:
    with pytest.raises(HearthError, match="--passphrase-file"):
        read(with_passphrase, Key())
    with pytest.raises(HearthError, match="--identity"):
        read(sealed(RECIPIENT), Key())


def test_somebody_elses_identity_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(HearthError, match="another key"):
        read(sealed(RECIPIENT), Key(tmp_path / "other"))
    (tmp_path / "nonsense").write_text("not an identity")
    with pytest.raises(HearthError, match="cannot be opened"):
        read(sealed(RECIPIENT), Key(tmp_path / "nonsense"))


@pytest.mark.parametrize("position", [30, 300, 100_000, -1])
def test_a_changed_or_missing_byte_shows(key: Key, position: int) -> None:
    content = sealed(RECIPIENT)
    changed = bytearray(content)
    changed[position] ^= 1
    for damaged in (bytes(changed), content[:position]):
        with pytest.raises(HearthError, match="was changed"):
            read(damaged, key)


def test_a_passphrases_armour_that_is_cut_off_is_refused(with_passphrase: bytes) -> None:
    with pytest.raises(HearthError, match="cut off"):
        read(with_passphrase[:100], Key(passphrase="correct horse"))


def test_a_reader_who_leaves_early_leaves_nothing_running(key: Key) -> None:
    content = sealed(RECIPIENT, bytes(5_000_000))

    def leave() -> None:
        with opened(io.BufferedReader(io.BytesIO(content)), key) as source:
            source.read(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert "age" not in {thread.name for thread in threading.enumerate()}


def test_what_is_not_sealed_is_read_as_it_is() -> None:
    assert read(b"plain", Key()) == b"plain"


def test_a_full_disk_is_the_error_that_is_told() -> None:
    class Full(io.BytesIO):
        def write(self, piece: object, /) -> int:
            raise OSError(28, "No space left on device")

    def write() -> None:
        with sealing(Full(), RECIPIENT) as sink:
            for _ in range(100):
                sink.write(CONTENT)

    with pytest.raises(OSError, match="No space left"):
        write()


@pytest.mark.parametrize("text", ["", "age1nonsense", "ssh-ed25519 nonsense", pytest.param(str(IDENTITY), id="secret")])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(HearthError, match="no public key"):
        sealed(Lock(recipients=[text]))


def test_a_large_backup_is_never_in_memory() -> None:
    script = """
import io, resource
import pyrage
from appliance.operations.encryption import Lock, sealing
class Sink(io.BytesIO):
    def write(self, piece): return len(piece)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with sealing(Sink(), Lock(recipients=[str(pyrage.x25519.Identity.generate().to_public())])) as sink:
    for _ in range(200):
        sink.write(bytes(1024 * 1024))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert int(run.stdout) < 32 * 1024
