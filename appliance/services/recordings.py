"""A sound file as a client sent it, held until its request ends: a small one in memory, the rest on the disk.

The file on the disk has no name, so that nothing is left of it whichever way the daemon ends. Knows no format: what is
in the file is found out by a worker.
"""

import asyncio
import hashlib
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from appliance.config import MIB
from appliance.errors import Code, HearthError
from appliance.services.uploads import require_space
from runtime.tasks.speech import AudioChunk

CHUNK_BYTES = MIB
"""Collected before a thread writes; also what is sent to a worker at a time."""
SPACE_CHECKED_EVERY = 16 * MIB


class Recording:
    """Written once, then read as often as it has to be sent. A context: what it holds is given back at its end."""

    def __init__(self, directory: Path, bytes_max: int, param: str = "file") -> None:
        self.num_bytes = 0
        self._directory = directory
        self._bytes_max = bytes_max
        self._param = param
        self._tail = bytearray()
        """Not on the disk (yet)."""
        self._file: IO[bytes] | None = None
        self._num_written = 0
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        """Whoever was cancelled may have left a thread at work."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    @property
    def sha256(self) -> str:
        digest = self._hash.copy()
        digest.update(self._tail)
        return digest.hexdigest()

    @property
    def is_on_disk(self) -> bool:
        return self._file is not None

    @property
    def beginning(self) -> bytes:
        """All of a small file; empty when it is on the disk."""
        return b"" if self.is_on_disk else bytes(self._tail)

    def clear(self) -> None:
        """Forget a small file, so that another is written in its place."""
        assert not self.is_on_disk, "only what is in memory can be replaced"
        self._tail.clear()
        self.num_bytes = 0

    async def write(self, data: bytes) -> None:
        """Raises `too_large`, and `failed_precondition` when the disk is full."""
        self.num_bytes += len(data)
        if self.num_bytes > self._bytes_max:
            message = f"{self._param}: a sound file has at most {self._bytes_max} bytes"
            raise HearthError(Code.TOO_LARGE, message, self._param)
        self._tail += data
        if len(self._tail) >= CHUNK_BYTES:
            whole = bytes(self._tail)
            self._tail.clear()
            await asyncio.to_thread(self._write, whole)

    async def chunks(self, request_id: str) -> AsyncIterator[AudioChunk]:
        """The whole file, from its beginning each time."""
        for start in range(0, self._num_written, CHUNK_BYTES):
            data = await asyncio.to_thread(self._read, start)
            yield AudioChunk(request_id=request_id, data=data, is_last=start + len(data) == self.num_bytes)
        if self._tail or not self.num_bytes:
            yield AudioChunk(request_id=request_id, data=bytes(self._tail), is_last=True)

    # ---- in threads

    def _write(self, data: bytes) -> None:
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 closed at the end
            if self._num_written // SPACE_CHECKED_EVERY != (self._num_written + len(data)) // SPACE_CHECKED_EVERY:
                require_space(self._directory, SPACE_CHECKED_EVERY)
            self._file.write(data)
            self._hash.update(data)
            self._num_written += len(data)

    def _read(self, start: int) -> bytes:
        with self._lock:
            assert self._file is not None
            self._file.seek(start)
            return self._file.read(min(CHUNK_BYTES, self._num_written - start))
