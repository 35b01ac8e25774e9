"""Importing from a folder of this machine, below the roots that the operator allows and nowhere else.

Where a path leads is decided on what was opened, not on its text: links may be followed, but only to what is below a
root. Files are copied, so that who owns the folder may change it afterwards; a file system that can share the blocks
of two files does.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import Code, HearthError
from appliance.services.grants import is_filename
from appliance.services.import_sources import Tell, wanted
from appliance.services.uploads import num_bytes_of
from models.folder import DEPTH_MAX

COPY_BYTES = 64 * 1024 * 1024
"""Copied before it can be cancelled and its progress is told."""
LOCAL_PATH = "localPath"
ENTRIES_MAX = 10_000


class LocalFolder:
    def __init__(self, path: str, roots: Sequence[str]) -> None:
        """Raises `invalid` unless the path leads below one of the roots, whether or not there is anything."""
        self.described = f"the folder {path[:200]!r}"
        self._roots = [Path(root).resolve() for root in roots]
        self._path = _resolved(path)
        self._directory = -1
        self._sizes: dict[str, tuple[int, int]] = {}
        """By file: bytes and time of its last change."""
        if not roots:
            message = "folders of this machine are not imported from here (setting import_roots)"
            raise HearthError(Code.INVALID, f"{LOCAL_PATH}: {message}", LOCAL_PATH)
        if not Path(path).is_absolute() or not self._is_below(self._path):
            message = "is not below a folder that the operator allows (setting import_roots)"
            raise HearthError(Code.INVALID, f"{LOCAL_PATH}: {message}", LOCAL_PATH)

    @property
    def identity(self) -> str:
        return f"file:{self._path.name}"

    async def open(self) -> dict[str, int]:
        return await asyncio.to_thread(self._open)

    def is_same(self, filename: str, path: Path, imported_before: str) -> bool:
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == self._sizes[filename]

    def part_name(self, filename: str) -> str:
        return f"{filename}@{self._sizes[filename][1]}"

    async def fetch(self, filename: str, size_bytes: int, part: Path, tell: Tell) -> None:
        num_bytes = await asyncio.to_thread(num_bytes_of, part)
        tell(num_bytes)
        while num_bytes < size_bytes:
            copied = await asyncio.to_thread(self._copy, filename, part, num_bytes)
            if not copied:
                raise HearthError(Code.FAILED_PRECONDITION, f"{filename} became shorter while it was read")
            tell(copied)
            num_bytes += copied
        await asyncio.to_thread(self._finish, filename, part, size_bytes)

    async def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def _open(self) -> dict[str, int]:
        try:
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HearthError(Code.INVALID, f"{LOCAL_PATH}: {os.strerror(error.errno or 0)}", LOCAL_PATH) from error
        self._require_below(self._directory)
        names = self._names_in(self._directory, "", ENTRIES_MAX)
        for name in wanted(dict.fromkeys(names, 0), self.described):
            descriptor = self._open_file(name)
            found = os.fstat(descriptor)
            os.close(descriptor)
            self._sizes[name] = found.st_size, found.st_mtime_ns
        return {name: size for name, (size, _) in self._sizes.items()}

    def _names_in(self, directory: int, prefix: str, num_left: int) -> list[str]:
        """Of all that is no folder, here and as deep as a model's files lie; links to folders are not followed."""
        names: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if len(names) >= num_left:
                    raise HearthError(Code.INVALID, f"{LOCAL_PATH}: more than {ENTRIES_MAX} entries", LOCAL_PATH)
                name = prefix + entry.name
                if not entry.is_dir(follow_symlinks=False):
                    names.append(name)
                elif is_filename(entry.name) and name.count("/") < DEPTH_MAX:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    descriptor = os.open(entry.name, flags, dir_fd=directory)
                    try:
                        names += self._names_in(descriptor, f"{name}/", num_left - len(names))
                    finally:
                        os.close(descriptor)
        return names

    def _open_file(self, name: str) -> int:
        """A link may lead to another folder below a root, as caches of the hub have it."""
        try:
            # O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer.
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError as error:
            message = f"{LOCAL_PATH}: {name} cannot be read ({os.strerror(error.errno or 0)})"
            raise HearthError(Code.INVALID, message, LOCAL_PATH) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise HearthError(Code.INVALID, f"{LOCAL_PATH}: {name} is not a regular file", LOCAL_PATH)
            self._require_below(descriptor)
        except HearthError:
            os.close(descriptor)
            raise
        return descriptor

    def _require_below(self, descriptor: int) -> None:
        if not self._is_below(Path(os.readlink(f"/proc/self/fd/{descriptor}"))):
            raise HearthError(Code.INVALID, f"{LOCAL_PATH}: leads out of what the operator allows", LOCAL_PATH)

    def _is_below(self, path: Path) -> bool:
        return any(path != root and path.is_relative_to(root) for root in self._roots)

    def _copy(self, filename: str, part: Path, start: int) -> int:
        source = self._open_file(filename)
        try:
            target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                return _copy_range(source, target, start)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _finish(self, filename: str, part: Path, size_bytes: int) -> None:
        """Synced, and with the time of the original, by which a later attempt knows it."""
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size_bytes)
            os.utime(descriptor, ns=(self._sizes[filename][1], self._sizes[filename][1]))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _resolved(path: str) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise HearthError(Code.INVALID, f"{LOCAL_PATH}: is no path", LOCAL_PATH) from error


def _copy_range(source: int, target: int, start: int) -> int:
    try:
        return os.copy_file_range(source, target, COPY_BYTES, start, start)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise HearthError(Code.FAILED_PRECONDITION, os.strerror(error.errno or 0)) from error
    return os.pwrite(target, os.pread(source, COPY_BYTES, start), start)
