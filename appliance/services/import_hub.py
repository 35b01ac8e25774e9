"""Importing from the hub, when the operator allows it: a repository at one commit, files of a model and no others.

`huggingface_hub` says what there is; the bytes come through our own receiver, which knows sizes and digests, goes on
where a connection broke, and can be cancelled.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from appliance.config import ImportSettings
from appliance.errors import Code, HearthError
from appliance.services.import_sources import Tell, wanted
from appliance.services.uploads import Receiver, Span, num_bytes_of

HUGGING_FACE_URL = "huggingFaceUrl"
TRIES_MAX = 5
RETRY_AFTER_S = 1.0
"""Doubled with each try."""
METADATA_TIMEOUT_S = 30.0

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9_.-]{0,127})*")


class HubRepository:
    def __init__(self, text: str, revision: str, settings: ImportSettings, receiver: Receiver) -> None:
        """`text`: `org/name`, or its page's URL. Raises `invalid` for anything else."""
        if not settings.allow_hub:
            message = "models are not imported from the hub here (setting allow_hub)"
            raise HearthError(Code.INVALID, f"{HUGGING_FACE_URL}: {message}", HUGGING_FACE_URL)
        self._settings = settings
        self._hub_url = settings.hub_url.rstrip("/")
        self._repository = _parse(text, self._hub_url)
        if not _REVISION.fullmatch(revision):
            raise HearthError(Code.INVALID, "revision: is the name of no branch, tag or commit", "revision")
        self.described = f"{self._repository} at {revision}"
        self._revision = revision
        self._receiver = receiver
        self._commit = ""
        self._sha256: dict[str, str] = {}
        """Of the files that the hub knows it of: the large ones."""
        self._session: aiohttp.ClientSession | None = None

    @property
    def identity(self) -> str:
        return f"{self._hub_url}/{self._repository}@{self._commit}"

    async def open(self) -> dict[str, int]:
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_read=self._settings.hub_stall_timeout_s, sock_connect=30.0),
        )
        return wanted(await asyncio.to_thread(self._look), self.described)

    def is_same(self, filename: str, path: Path, imported_before: str) -> bool:
        return imported_before == self.identity

    def part_name(self, filename: str) -> str:
        return f"{filename}@{self._commit}"

    async def fetch(self, filename: str, size_bytes: int, part: Path, tell: Tell) -> None:
        tell(await asyncio.to_thread(num_bytes_of, part))
        wait_s = RETRY_AFTER_S
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                await self._fetch_rest(filename, size_bytes, part, tell)
                break
            except (aiohttp.ClientError, TimeoutError, HearthError) as error:
                if not tries_left or (isinstance(error, HearthError) and error.code is not Code.INVALID):
                    raise _unreachable(filename, error) from error
            await asyncio.sleep(wait_s)
            wait_s *= 2
        digest = await self._receiver.digest(part)
        if digest != self._sha256.get(filename, digest):
            await asyncio.to_thread(part.unlink)
            raise HearthError(Code.FAILED_PRECONDITION, f"{filename}: what arrived is not what the hub announced")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _look(self) -> dict[str, int]:
        """Blocking. The library is imported here because few daemons ever need it."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        api = HfApi(endpoint=self._hub_url, token=False)
        try:
            found = api.model_info(
                self._repository, revision=self._revision, files_metadata=True, timeout=METADATA_TIMEOUT_S
            )
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
            raise HearthError(
                Code.FAILED_PRECONDITION, f"the hub does not give {self.described}: {type(error).__name__}"
            ) from error
        self._commit = found.sha or self._revision
        siblings = [file for file in found.siblings or [] if file.size is not None]
        self._sha256 = {file.rfilename: file.lfs.sha256 for file in siblings if file.lfs is not None}
        return {file.rfilename: file.size for file in siblings if file.size is not None}

    async def _fetch_rest(self, filename: str, size_bytes: int, part: Path, tell: Tell) -> None:
        assert self._session is not None, "open comes first"
        num_bytes = await asyncio.to_thread(num_bytes_of, part)
        if num_bytes == size_bytes > 0:
            return
        url = f"{self._hub_url}/{self._repository}/resolve/{self._commit}/{filename}"
        headers = {"Range": f"bytes={num_bytes}-"} if num_bytes else {}
        async with self._session.get(url, headers=headers, max_redirects=5) as response:
            response.raise_for_status()
            if response.status != 206:
                tell(-num_bytes)
                num_bytes = 0
            span = Span(num_bytes, size_bytes)
            await self._receiver.append(part, span, _told(response.content.iter_any(), tell), keeps_broken=True)


async def _told(chunks: AsyncIterator[bytes], tell: Tell) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        tell(len(chunk))
        yield chunk


def _parse(text: str, hub_url: str) -> str:
    """The repository's id out of its page's address, or as it is."""
    if "://" in text:
        if urlsplit(text).netloc != urlsplit(hub_url).netloc:
            message = f"models come from {hub_url} here (setting hub_url)"
            raise HearthError(Code.INVALID, f"{HUGGING_FACE_URL}: {message}", HUGGING_FACE_URL)
        text = urlsplit(text).path.strip("/")
    if not _REPOSITORY.fullmatch(text) or ".." in text or "--" in text:
        raise HearthError(
            Code.INVALID,
            f"{HUGGING_FACE_URL}: expected ORGANISATION/NAME, or the address of its page",
            HUGGING_FACE_URL,
        )
    return text


def _unreachable(filename: str, error: Exception) -> HearthError:
    if isinstance(error, HearthError):
        return error
    status = f" ({error.status})" if isinstance(error, aiohttp.ClientResponseError) else ""
    return HearthError(Code.UNAVAILABLE, f"{filename}: the hub did not send it{status}")
