"""The inside of a backup: a tar of plain files under names of our making, whose last member lists the others' hashes.

Any tar shows and unpacks it. Here it is read member by member and no other name or kind of member is accepted, so that
an archive from anywhere can only ever write where the reader says.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import IO, NamedTuple

import msgspec

from appliance.errors import Code, HearthError

MANIFEST = "manifest.json"
FORMAT = 1
PIECE_BYTES = 1024 * 1024
MANIFEST_BYTES_MAX = 256 * 1024 * 1024
_TOP_LEVEL = {"hearth.db", "audit-head", "master-key", "admin-api-key", MANIFEST}
_IN_A_FOLDER = re.compile(r"(models|datasets)(/[A-Za-z0-9_][A-Za-z0-9._-]{0,254}){2,8}")


class File(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    size_bytes: int
    sha256: str


class LeftOut(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    """Full name of a model or dataset whose files are not here."""
    reason: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    format: int = FORMAT
    hearth_version: str
    schema: int
    create_time: str
    has_models: bool
    has_master_key: bool
    left_out: list[LeftOut]
    files: list[File]


class Member(NamedTuple):
    name: str
    size_bytes: int
    content: "MemberReader"
    """To be read before the next member is asked for."""


class ArchiveWriter:
    def __init__(self, tar: tarfile.TarFile, on_progress: Callable[[str, int], None]) -> None:
        """`on_progress`: told of the name and size of each piece."""
        self.files: list[File] = []
        self._tar = tar
        self._on_progress = on_progress

    def add(self, name: str, content: IO[bytes], size_bytes: int, mtime: float) -> None:
        """Raises OSError when the content is shorter than announced; what is longer is not read."""
        member = _member(name, size_bytes, mtime)
        reading = _HashingReader(content, lambda size: self._on_progress(name, size))
        self._tar.addfile(member, reading)
        self.files.append(File(name, size_bytes, reading.sha256.hexdigest()))

    def finish(self, manifest: Manifest, mtime: float) -> None:
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        self._tar.addfile(_member(MANIFEST, len(content), mtime), io.BytesIO(content))


@contextmanager
def writing_archive(file: IO[bytes], on_progress: Callable[[str, int], None]) -> Iterator[ArchiveWriter]:
    """Not an archive until this ends without an error, and `finish` was called."""
    tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT, bufsize=PIECE_BYTES)  # noqa: SIM115
    tar.copybufsize = PIECE_BYTES  # type: ignore[attr-defined]
    is_complete = False
    try:
        yield ArchiveWriter(tar, on_progress)
        is_complete = True
    finally:
        with nullcontext() if is_complete else suppress(OSError):  # what it still holds may have nowhere to go
            tar.close()


def read_members(file: IO[bytes]) -> Iterator[Member]:
    """In order. Raises `failed_precondition` for what no backup holds, and where the archive is damaged."""
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=PIECE_BYTES) as tar:
            for member in tar:
                if member.type != tarfile.REGTYPE or not _is_ours(member.name):
                    raise _refusal(f"it holds {member.name!r}, which no backup of this version does")
                content = tar.extractfile(member)
                assert content is not None
                yield Member(member.name, member.size, MemberReader(content))
    except tarfile.TarError as error:
        raise _damage(error) from error


def read_manifest(content: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise _refusal(f"it is damaged: its list of files cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise _refusal(f"it has format {manifest.format}, this version of hearth reads {FORMAT}: install a newer one")
    return manifest


class MemberReader:
    def __init__(self, content: IO[bytes]) -> None:
        self._content = content

    def read(self, size: int = -1, /) -> bytes:
        """Raises `failed_precondition` where the archive ends too early."""
        try:
            return self._content.read(size)
        except tarfile.TarError as error:
            raise _damage(error) from error


class _HashingReader:
    """What tarfile copies from, hashed on the way."""

    def __init__(self, content: IO[bytes], on_read: Callable[[int], None]) -> None:
        self.sha256 = hashlib.sha256()
        self._content = content
        self._on_read = on_read

    def read(self, size: int = -1, /) -> bytes:
        piece = self._content.read(size)
        self.sha256.update(piece)
        self._on_read(len(piece))
        return piece


def _member(name: str, size_bytes: int, mtime: float) -> tarfile.TarInfo:
    assert _is_ours(name), name
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size_bytes, int(mtime), 0o600
    return member


def _is_ours(name: str) -> bool:
    return name in _TOP_LEVEL or _IN_A_FOLDER.fullmatch(name) is not None


def _damage(error: tarfile.TarError) -> HearthError:
    return _refusal(f"it is damaged or no backup: {error}")


def _refusal(problem: str) -> HearthError:
    return HearthError(Code.FAILED_PRECONDITION, problem)
