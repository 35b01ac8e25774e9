"""Getting a file from a client onto the disk: signed URLs without a key, and a stream that is trusted in nothing.

A signature covers every name and number that decides where bytes go, so that a URL is good for exactly one file.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.config import GIB
from appliance.errors import Code, HearthError
from appliance.store.durable_files import write_private

URL_LIFETIME_S = 24 * 3600.0
WRITE_BYTES = 4 * 1024 * 1024
"""Collected before a thread writes and hashes them."""
FREE_BYTES_KEPT = 2 * GIB
FREE_FRACTION_KEPT = 0.05
"""The smaller of both stays free, for the state store."""

_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_PURPOSE = b"hearth upload v1\0"  # the key signs other things as well, one day


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What one URL allows."""

    account_id: str
    model_id: str
    directory: str
    filename: str
    size_bytes: int
    expires_at: float


class ReceivedFile(NamedTuple):
    path: Path
    """Synced, but still under a name of its own."""
    sha256: str


def load_signing_key(path: Path) -> bytes:
    """Made once and kept, so that uploads under way survive a restart of the daemon."""
    if not path.exists():
        write_private(path, secrets.token_bytes(32))
    return path.read_bytes()


def check_filename(filename: str, param: str) -> None:
    """Flat names of letters that mean nothing to any file system or shell."""
    if not _FILENAME.fullmatch(filename):
        raise HearthError(
            Code.INVALID,
            f"{param}: {filename!r} is no file name that can be taken: letters, digits, '.', '_', '-'",
            param,
        )


def sign(grant: Grant, key: bytes) -> str:
    payload = msgspec.msgpack.encode(grant)
    return base64.urlsafe_b64encode(_signature(payload, key) + payload).decode().rstrip("=")


def verify(token: str, filename: str, key: bytes, now: float) -> Grant:
    """Raises `forbidden` for every token that this key did not sign for this file, or that is too old."""
    try:
        signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused() from error
    signature, payload = signed[:32], signed[32:]
    if not hmac.compare_digest(signature, _signature(payload, key)):
        raise _refused()
    grant = msgspec.msgpack.decode(payload, type=Grant)
    if grant.filename != filename or grant.expires_at <= now:
        raise _refused()
    return grant


def require_space(directory: Path, size_bytes: int) -> None:
    """Before the first byte is taken; blocking."""
    disk = os.statvfs(directory)
    kept = min(FREE_BYTES_KEPT, int(disk.f_blocks * disk.f_frsize * FREE_FRACTION_KEPT))
    free = max(disk.f_bavail * disk.f_frsize - kept, 0)
    if size_bytes > free:
        raise HearthError(
            Code.FAILED_PRECONDITION,
            f"the file needs {size_bytes / GIB:.1f} GiB, the disk has {free / GIB:.1f} GiB to give",
            reason="DISK_FULL",
        )


@asynccontextmanager
async def received(directory: Path, grant: Grant, chunks: AsyncIterator[bytes]) -> AsyncIterator[ReceivedFile]:
    """The announced bytes, no fewer and no more, for the caller to move into place; what it leaves is removed."""
    part = await asyncio.to_thread(_Part, directory / secrets.token_hex(16))
    try:
        num_bytes = 0
        buffer = bytearray()
        async for chunk in chunks:
            num_bytes += len(chunk)
            if num_bytes > grant.size_bytes:
                raise _wrong_size(grant, f"more than the announced {grant.size_bytes} bytes arrived")
            buffer += chunk
            if len(buffer) >= WRITE_BYTES:
                await asyncio.to_thread(part.write, bytes(buffer))
                buffer.clear()
        if num_bytes < grant.size_bytes:
            raise _wrong_size(grant, f"{num_bytes} of the announced {grant.size_bytes} bytes arrived")
        yield ReceivedFile(part.path, await asyncio.to_thread(part.finish, bytes(buffer)))
    finally:
        await asyncio.to_thread(part.discard)


class _Part:
    """A file being written. Its own lock keeps `discard` behind a `write` that a cancelled caller left running."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb")
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def finish(self, data: bytes) -> str:
        self.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def _signature(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + payload, "sha256")


def _refused() -> HearthError:
    return HearthError(Code.FORBIDDEN, "the upload URL is not valid, or no longer; ask for a new one")


def _wrong_size(grant: Grant, problem: str) -> HearthError:
    return HearthError(Code.INVALID, f"{grant.filename}: {problem}")
