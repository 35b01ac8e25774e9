"""A model's folder, opened so that nothing in it can lead elsewhere: few levels, regular files, no links followed.

A file inside another folder is named with `/`, as `unet/config.json`. Every file read through it is hashed on the way,
so `sha256` ends as the list of what a worker will read.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from models.refusal import ModelRefused, RefusalReason
from models.strict_json import MalformedJson, parse_list, parse_object

ENTRIES_MAX = 1024
DEPTH_MAX = 2
"""Folders that a file may lie below, as in `controlnet/canny/config.json`."""
_HASH_CHUNK_BYTES = 4 * 1024 * 1024


class ModelFolder:
    """Raises ModelRefused for whatever cannot be read safely; never any other exception."""

    def __init__(self, directory: Path, known_sha256: Mapping[str, str] = {}) -> None:
        """Large files in `known_sha256` are not read again to be hashed."""
        self.sha256: dict[str, str] = {}
        self._known_sha256 = known_sha256
        try:
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise ModelRefused(RefusalReason.UNREADABLE, "the model's folder cannot be opened") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def list_entries(self) -> tuple[list[str], list[str]]:
        """Names of (files, folders) at the top level; refuses links, devices and unprintable names."""
        return self._list(self._descriptor, "")

    def list_tree(self) -> list[str]:
        """Names of the files at every level; as strict as `list_entries`, also with folders that are too deep."""
        files, folders = self.list_entries()
        num_entries = len(files) + len(folders)
        while folders:
            name = folders.pop()
            if name.count("/") >= DEPTH_MAX:
                raise ModelRefused(RefusalReason.UNSAFE_FILE, f"lies deeper than {DEPTH_MAX} folders", name)
            descriptor = self._open(name, os.O_DIRECTORY)
            try:
                inner_files, inner_folders = self._list(descriptor, f"{name}/")
            finally:
                os.close(descriptor)
            files += inner_files
            folders += inner_folders
            num_entries += len(inner_files) + len(inner_folders)
            if num_entries > ENTRIES_MAX:
                raise _too_many()
        return sorted(files)

    def open(self, name: str) -> BinaryIO:
        """Open a regular file inside the folder; the caller closes it."""
        # O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer.
        descriptor = self._open(name, os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ModelRefused(RefusalReason.UNSAFE_FILE, "is not a regular file", name)
        return os.fdopen(descriptor, "rb")

    def read(self, name: str, *, bytes_max: int) -> bytes:
        """The whole of a small file, hashed."""
        with self.open(name) as file:
            try:
                data = file.read(bytes_max + 1)
            except OSError as error:
                raise ModelRefused(RefusalReason.UNREADABLE, "cannot be read", name) from error
        if len(data) > bytes_max:
            raise ModelRefused(RefusalReason.TOO_LARGE, f"is larger than {bytes_max} bytes", name)
        self.sha256[name] = hashlib.sha256(data).hexdigest()
        return data

    def read_json_list(self, name: str, *, bytes_max: int, values_max: int) -> list[Any]:
        """The list in a JSON file, strictly parsed."""
        try:
            return parse_list(self.read(name, bytes_max=bytes_max), values_max=values_max)
        except MalformedJson as error:
            raise ModelRefused(RefusalReason.MALFORMED_JSON, str(error), name) from error

    def read_json(self, name: str, *, bytes_max: int, values_max: int) -> dict[str, Any]:
        """The object in a JSON file, strictly parsed."""
        try:
            return parse_object(self.read(name, bytes_max=bytes_max), values_max=values_max)
        except MalformedJson as error:
            raise ModelRefused(RefusalReason.MALFORMED_JSON, str(error), name) from error

    def is_as_known(self, name: str) -> bool:
        """Whether a file's hash, computed now, is the one that an earlier inspection found."""
        if name not in self._known_sha256:
            return False
        with self.open(name) as file:
            self._hash(name, file)
        return self.sha256[name] == self._known_sha256[name]

    def hash(self, name: str, file: BinaryIO) -> None:
        """Hash an open file from its start, in chunks, unless its hash is known."""
        if name in self._known_sha256:
            self.sha256[name] = self._known_sha256[name]
        else:
            self._hash(name, file)

    def _hash(self, name: str, file: BinaryIO) -> None:
        digest = hashlib.sha256()
        try:
            file.seek(0)
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
        except OSError as error:
            raise ModelRefused(RefusalReason.UNREADABLE, "cannot be read", name) from error
        self.sha256[name] = digest.hexdigest()

    def _list(self, descriptor: int, prefix: str) -> tuple[list[str], list[str]]:
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    self._check_entry(prefix + entry.name, mode)
                    (folders if stat.S_ISDIR(mode) else files).append(prefix + entry.name)
                    if len(files) + len(folders) > ENTRIES_MAX:
                        raise _too_many()
        except OSError as error:
            raise ModelRefused(RefusalReason.UNREADABLE, "the model's folder cannot be listed") from error
        return sorted(files), sorted(folders)

    def _open(self, name: str, flags: int) -> int:
        """One step for each folder on the way, none of which is a link."""
        *folders, last = steps = name.split("/")
        if len(folders) > DEPTH_MAX or "\0" in name or not {"", ".", ".."}.isdisjoint(steps):
            raise ModelRefused(RefusalReason.UNSAFE_FILE, f"{name[:100]!r} does not name a file inside the folder")
        flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        opened: list[int] = []
        try:
            for step in folders:
                directory = opened[-1] if opened else self._descriptor
                opened.append(
                    os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
                )
            return os.open(last, flags, dir_fd=opened[-1] if opened else self._descriptor)
        except (OSError, ValueError) as error:
            raise _refuse_open(name, error) from error
        finally:
            for descriptor in opened:
                os.close(descriptor)

    @staticmethod
    def _check_entry(name: str, mode: int) -> None:
        # isprintable is false for control characters, undecodable bytes and characters that reorder text on a screen.
        if not name.isprintable() or "\\" in name:
            raise ModelRefused(RefusalReason.UNSAFE_FILE, f"the file name {name!r} is not safe to use")
        if stat.S_ISLNK(mode):
            raise ModelRefused(RefusalReason.UNSAFE_FILE, "is a symbolic link", name)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ModelRefused(RefusalReason.UNSAFE_FILE, "is not a regular file", name)


def _too_many() -> ModelRefused:
    return ModelRefused(RefusalReason.UNSAFE_FILE, f"the folder has more than {ENTRIES_MAX} entries")


def _refuse_open(name: str, error: OSError | ValueError) -> ModelRefused:
    match getattr(error, "errno", None):
        case errno.ENOENT:
            return ModelRefused(RefusalReason.MISSING_FILE, "is missing", name)
        case errno.ELOOP:
            return ModelRefused(RefusalReason.UNSAFE_FILE, "is a symbolic link", name)
        case errno.ENOTDIR:
            return ModelRefused(RefusalReason.UNSAFE_FILE, "leads through what is no folder", name)
    return ModelRefused(RefusalReason.UNREADABLE, "cannot be opened", name)
