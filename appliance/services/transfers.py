"""Files between clients and the folders of models and datasets, over signed URLs: whole, in parts, and back.

What a file is for, and whether it is still wanted, is decided by the `Place` that its collection registered. Half a
file lies in `uploads/` under a name made from its grant, so that a later URL, or a later daemon, goes on with it.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from appliance.errors import Code, HearthError
from appliance.services.grants import URL_LIFETIME_S, Grant, check_filename, check_paths, sign, verify
from appliance.services.uploads import ReceivedFile, Receiver, Span, hash_file, num_bytes_of, require_space
from appliance.store.durable_files import remove_tree

logger = logging.getLogger(__name__)

FILES_MAX = 1000
PARTIAL_KEPT_S = 24 * 3600.0
CONTENT_RANGE = "content-range"


class Place(Protocol):
    """Where the files of one collection live, and who knows its rows."""

    directory: Path
    """Parent of the resources' folders; on one file system with `uploads/`."""
    takes_folders: bool
    """Whether a resource's files may lie in folders inside its own."""

    async def require(self, grant: Grant) -> None:
        """Raise unless the row is still the one of this grant, and takes (or gives) this file."""

    async def receive(self, grant: Grant, file: ReceivedFile) -> None:
        """Move the file into its place; refuse it when the row no longer takes it."""

    async def list_directories(self) -> set[str]:
        """Names of all folders that some row owns."""


class Part(NamedTuple):
    """What a client says of the piece that it sends; no `span`: it only asks how much is here."""

    span: Span | None
    total: int
    """Bytes of the whole file."""


class Progress(NamedTuple):
    """How much of an upload is here. `sha256` is of the whole file, once it is in its place."""

    num_bytes: int
    sha256: str | None


class Transfers:
    def __init__(
        self, uploads_dir: Path, signing_key: bytes, file_bytes_max: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.receiver = Receiver()
        self._uploads_dir = uploads_dir
        self._signing_key = signing_key
        self._file_bytes_max = file_bytes_max
        self._clock = clock
        self._places: dict[str, Place] = {}

    def register(self, collection: str, place: Place) -> None:
        self._places[collection] = place

    def upload_urls(
        self,
        collection: str,
        account_id: str,
        resource_id: str,
        directory: str,
        filename_to_size: dict[str, int],
        base_url: str,
        is_resumable: bool = False,
    ) -> dict[str, str]:
        """One URL per file, for PUTs without a key; may be asked for again, a file that comes again replaces."""
        if not 0 < len(filename_to_size) <= FILES_MAX:
            raise HearthError(Code.INVALID, f"filenameToSize: between 1 and {FILES_MAX} files", "filenameToSize")
        if self._places[collection].takes_folders:
            check_paths(filename_to_size.keys(), "filenameToSize")
        for filename, size_bytes in filename_to_size.items():
            if not self._places[collection].takes_folders:
                check_filename(filename, "filenameToSize")
            if not 0 <= size_bytes <= self._file_bytes_max:
                raise HearthError(
                    Code.TOO_LARGE, f"{filename}: between 0 and {self._file_bytes_max} bytes", "filenameToSize"
                )
        expires_at = self._clock() + URL_LIFETIME_S
        grants = (
            Grant(collection, account_id, resource_id, directory, filename, True, size, is_resumable, expires_at)
            for filename, size in filename_to_size.items()
        )
        return {grant.filename: self._url("uploads", grant, base_url) for grant in grants}

    def download_urls(
        self, collection: str, account_id: str, resource_id: str, directory: str, filenames: list[str], base_url: str
    ) -> dict[str, str]:
        """One URL per file, for GETs without a key."""
        expires_at = self._clock() + URL_LIFETIME_S
        grants = (
            Grant(collection, account_id, resource_id, directory, filename, False, 0, False, expires_at)
            for filename in filenames
        )
        return {grant.filename: self._url("downloads", grant, base_url) for grant in grants}

    async def receive(self, token: str, filename: str, part: Part | None, chunks: AsyncIterator[bytes]) -> Progress:
        """Take a file: whole, or a part of it, which must begin where what is here ends."""
        grant, place = await self._open(token, filename, is_upload=True)
        path = place.directory / grant.directory / filename
        partial = self._half(grant)
        if part is not None:
            _require_resumable(grant, part)
        if part is not None and part.span is None:
            return await self._progress(grant, place, partial)
        with self.receiver.writing(path, partial):
            num_bytes = await asyncio.to_thread(num_bytes_of, partial) if part is not None else 0
            span = part.span if part is not None and part.span is not None else Span(0, grant.size_bytes)
            if span.start != num_bytes:
                raise _out_of_turn(grant, num_bytes)
            await asyncio.to_thread(require_space, self._uploads_dir, grant.size_bytes - num_bytes)
            await self.receiver.append(partial, span, chunks, grant.is_resumable)
            if span.end < grant.size_bytes:
                return Progress(span.end, None)
            return await self._deliver(grant, place, partial)

    def partial(self, collection: str, directory: str, filename: str, size_bytes: int) -> Path:
        """Where the half of a file lies that can be gone on with; the same for every URL to one of the same size."""
        digest = hashlib.sha256(f"{filename}\0{size_bytes}".encode()).hexdigest()
        return self._uploads_dir / f"{collection}.{directory}.{digest[:32]}"

    def require_space(self, size_bytes: int) -> None:
        """Blocking."""
        require_space(self._uploads_dir, size_bytes)

    async def find_download(self, token: str, filename: str) -> Path:
        """The file that a download URL is good for."""
        grant, place = await self._open(token, filename, is_upload=False)
        path = place.directory / grant.directory / filename
        if not await asyncio.to_thread(path.is_file):
            raise HearthError(Code.NOT_FOUND, f"{filename} not found")
        return path

    async def sweep_leftovers(self) -> None:
        """At the start, before anything is served: also what no URL can lead to."""
        partials = await asyncio.to_thread(self._partials)
        await asyncio.to_thread(_remove_others, self._uploads_dir, set(partials))
        await self.sweep()

    async def sweep(self) -> None:
        """Remove halves of files whose resource is gone, or that nobody went on with for a day."""
        partials = await asyncio.to_thread(self._partials)
        owned = {name: await place.list_directories() for name, place in self._places.items()} if partials else {}
        for path, (collection, directory) in partials.items():
            is_owned = directory in owned.get(collection, set())
            if not self.receiver.is_writing(path) and not (is_owned and await asyncio.to_thread(self._is_fresh, path)):
                logger.info("removing %s, which nobody went on with", path.name)
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _open(self, token: str, filename: str, is_upload: bool) -> tuple[Grant, Place]:
        grant = verify(token, filename, is_upload, self._signing_key, self._clock())
        place = self._places[grant.collection]
        await place.require(grant)
        return grant, place

    async def _progress(self, grant: Grant, place: Place, partial: Path) -> Progress:
        """What was complete but not acknowledged is completed now. Asking alone keeps no writer out."""
        path = place.directory / grant.directory / grant.filename
        self.receiver.require_idle(path, partial)
        num_bytes = await asyncio.to_thread(num_bytes_of, partial)
        if num_bytes == grant.size_bytes > 0:
            with self.receiver.writing(path, partial):
                return await self._deliver(grant, place, partial)
        if num_bytes == 0 and await asyncio.to_thread(_is_whole, path, grant.size_bytes):
            return Progress(grant.size_bytes, await asyncio.to_thread(hash_file, path))
        return Progress(num_bytes, None)

    async def _deliver(self, grant: Grant, place: Place, partial: Path) -> Progress:
        file = ReceivedFile(partial, await self.receiver.digest(partial))
        try:
            await place.receive(grant, file)
        except HearthError:
            await asyncio.to_thread(partial.unlink, missing_ok=True)
            raise
        return Progress(grant.size_bytes, file.sha256)

    def _half(self, grant: Grant) -> Path:
        """Where the file lies until it is whole; nobody goes on with one that only comes at once."""
        partial = self.partial(grant.collection, grant.directory, grant.filename, grant.size_bytes)
        return partial if grant.is_resumable else partial.with_name(f"{partial.name}.whole")

    def _url(self, verb: str, grant: Grant, base_url: str) -> str:
        return f"{base_url}/v1/{verb}/{sign(grant, self._signing_key)}/{grant.filename}"

    def _partials(self) -> dict[Path, tuple[str, str]]:
        """All that lie there, with collection and folder as their names say; blocking."""
        found = {}
        for path in self._uploads_dir.iterdir():
            words = path.name.split(".")
            if len(words) == 3 and words[0] in self._places:
                found[path] = (words[0], words[1])
        return found

    def _is_fresh(self, path: Path) -> bool:
        try:
            return self._clock() - path.stat().st_mtime < PARTIAL_KEPT_S
        except FileNotFoundError:
            return True


def _require_resumable(grant: Grant, part: Part) -> None:
    if not grant.is_resumable:
        raise HearthError(
            Code.INVALID,
            f"{CONTENT_RANGE}: this URL takes the whole file at once; ask for URLs with enableResumableUpload",
            CONTENT_RANGE,
        )
    if part.total != grant.size_bytes or (part.span is not None and part.span.end > part.total):
        raise HearthError(
            Code.INVALID, f"{CONTENT_RANGE}: the announced size is {grant.size_bytes} bytes", CONTENT_RANGE
        )


def _out_of_turn(grant: Grant, num_bytes: int) -> HearthError:
    return HearthError(
        Code.INVALID,
        f"{CONTENT_RANGE}: the next part must begin at byte {num_bytes} of {grant.size_bytes}",
        CONTENT_RANGE,
        reason="WRONG_RANGE",
        details={"expectedStart": num_bytes},
    )


def _is_whole(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def _remove_others(directory: Path, kept: set[Path]) -> None:
    for path in directory.iterdir():
        if path not in kept:
            logger.info("removing %s, which nothing refers to", path.name)
            remove_tree(path)
