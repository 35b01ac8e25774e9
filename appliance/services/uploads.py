"""A file's bytes from a stream that is trusted in nothing onto the disk: exactly as many as announced, synced, hashed.

A file lies under a name of the server's until it is whole. What arrived of a resumable one stays there when the
stream breaks, and outlives the daemon.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from appliance.config import GIB
from appliance.errors import Code, HearthError

WRITE_BYTES = 4 * 1024 * 1024
"""Collected before a thread writes and hashes them."""
FREE_BYTES_KEPT = 2 * GIB
FREE_FRACTION_KEPT = 0.05
"""The smaller of both stays free, for the state store."""
DIGESTS_KEPT = 256


class ReceivedFile(NamedTuple):
    path: Path
    """Synced, but still under a name of its own."""
    sha256: str


class Span(NamedTuple):
    """Which bytes of a file a stream brings: from `start` up to and without `end`."""

    start: int
    end: int


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


def num_bytes_of(path: Path) -> int:
    """0 for a file that is not there; blocking."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def hash_file(path: Path) -> str:
    """Blocking, and long for a large file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Receiver:
    """Writes files that arrive, one writer for each; remembers digests of parts, so that they are not read again."""

    def __init__(self) -> None:
        self._being_written: set[Path] = set()
        self._digests: dict[Path, tuple[int, hashlib._Hash]] = {}

    def is_writing(self, path: Path) -> bool:
        return path in self._being_written

    def require_idle(self, *paths: Path) -> None:
        """Raises `conflict` while somebody writes one of these."""
        if not self._being_written.isdisjoint(paths):
            raise HearthError(Code.CONFLICT, "this file is being written by another request", reason="BEING_WRITTEN")

    @contextmanager
    def writing(self, *paths: Path) -> Iterator[None]:
        """Nobody else writes these meanwhile: a second one is refused as a `conflict`."""
        self.require_idle(*paths)
        self._being_written.update(paths)
        try:
            yield
        finally:
            self._being_written.difference_update(paths)

    async def append(
        self, path: Path, span: Span, chunks: AsyncIterator[bytes], keeps_broken: bool, is_exact: bool = True
    ) -> None:
        """Write what the stream brings at `span.start`, where the file ends now; 0 begins anew.

        A stream of another length is refused, and the file is as long as before; unless `is_exact`, a shorter one
        is taken. One that breaks off leaves what it brought when `keeps_broken`, otherwise no file.
        """
        part = await asyncio.to_thread(_Part, path, span.start, self._known_digest(path, span.start))
        buffer = bytearray()
        num_bytes = span.start
        is_whole = False
        try:
            async for chunk in chunks:
                num_bytes += len(chunk)
                if num_bytes > span.end:
                    await asyncio.to_thread(part.cut, span.start)
                    raise _wrong_size(span, f"more than {span.end - span.start}")
                buffer += chunk
                if len(buffer) >= WRITE_BYTES:
                    await asyncio.to_thread(part.write, bytes(buffer))
                    buffer.clear()
            if num_bytes < span.end and is_exact:
                raise _wrong_size(span, str(num_bytes - span.start))
            await asyncio.to_thread(part.write, bytes(buffer))
            self._remember(path, num_bytes, await asyncio.to_thread(part.finish))
            is_whole = True
        finally:
            if not is_whole:
                rest = bytes(buffer) if num_bytes <= span.end else b""
                await asyncio.to_thread(part.give_up, rest, keeps_broken)

    async def digest(self, path: Path) -> str:
        """Of all that lies there; kept from the writing of it, or read again after a restart."""
        known = self._digests.pop(path, None)
        if known is not None and known[0] == await asyncio.to_thread(num_bytes_of, path):
            return known[1].hexdigest()
        return await asyncio.to_thread(hash_file, path)

    def _known_digest(self, path: Path, start: int) -> "hashlib._Hash | None":
        num_bytes, digest = self._digests.pop(path, (0, None))
        if start == 0:
            return hashlib.sha256()
        return digest if num_bytes == start else None

    def _remember(self, path: Path, num_bytes: int, digest: "hashlib._Hash | None") -> None:
        if digest is not None:
            self._digests[path] = (num_bytes, digest)
            while len(self._digests) > DIGESTS_KEPT:
                self._digests.pop(next(iter(self._digests)))


class _Part:
    """A file being written. The open file's own lock keeps an end behind a `write` that was left running."""

    def __init__(self, path: Path, start: int, digest: "hashlib._Hash | None") -> None:
        self._path = path
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb")
        self._file.truncate(start)
        self._file.seek(start)
        self._digest = digest

    def write(self, data: bytes) -> None:
        self._file.write(data)
        if self._digest is not None:
            self._digest.update(data)

    def cut(self, num_bytes: int) -> None:
        self._file.flush()
        self._file.truncate(num_bytes)

    def finish(self) -> "hashlib._Hash | None":
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest

    def give_up(self, rest: bytes, is_kept: bool) -> None:
        if is_kept and not self._file.closed:
            self.write(rest)
            self.finish()
        self._file.close()
        if not is_kept:
            self._path.unlink(missing_ok=True)


def _wrong_size(span: Span, arrived: str) -> HearthError:
    return HearthError(Code.INVALID, f"{span.end - span.start} bytes were announced, {arrived} arrived")
