"""A file inside a multipart/form-data body, as it arrives: never collected, in memory or on the disk.

Knows no resource. The limits of size and time are the caller's; what breaks them, and what is no such body, is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple, TypeVar

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from appliance.errors import Code, HearthError

OTHER_FIELDS_BYTES_MAX = 64 * 1024
"""Of each part that stands before the file and is not asked for."""
PARTS_MAX = 16
PLAIN_ENCODINGS = frozenset({"", "binary", "7bit", "8bit"})

# The library tells of a body that is none with all of these.
_MALFORMED = (
    ValueError,
    KeyError,
    AssertionError,
    RuntimeError,
    HttpProcessingError,
    web.RequestPayloadError,
    web.PayloadAccessError,
)

T = TypeVar("T")


class FilePart(NamedTuple):
    filename: str | None
    """As the client calls it."""
    chunks: AsyncIterator[bytes]
    """End with the part; raise `too_large`, `timeout`, and `invalid` when it breaks off."""


async def open_file_part(request: web.Request, field: str, max_bytes: int, idle_timeout_s: float) -> FilePart:
    """The first part of that name. What stands after it is not read."""
    if request.content_length is not None and request.content_length > max_bytes + OTHER_FIELDS_BYTES_MAX:
        raise _too_large(field, max_bytes)
    if not request.content_type.startswith("multipart/"):
        raise HearthError(Code.INVALID, f"{field}: send it as multipart/form-data", field)
    part = await _find(await in_time(request.multipart(), field, idle_timeout_s), field, idle_timeout_s)
    return FilePart(part.filename, _read(part, field, max_bytes, idle_timeout_s))


async def _find(reader: MultipartReader, field: str, idle_timeout_s: float) -> BodyPartReader:
    for _ in range(PARTS_MAX):
        part = await in_time(reader.next(), field, idle_timeout_s)
        if part is None:
            break
        if not isinstance(part, BodyPartReader):
            raise HearthError(Code.INVALID, "the multipart body holds another one; send one level", field)
        if part.name == field:
            if part.headers.get("Content-Transfer-Encoding", "").lower() not in PLAIN_ENCODINGS:
                raise HearthError(Code.INVALID, f"{field}: send it as it is, without a transfer encoding", field)
            return part
        async for _chunk in _read(part, field, OTHER_FIELDS_BYTES_MAX, idle_timeout_s):
            pass  # this API has no other field
    raise HearthError(Code.INVALID, f"{field}: this field is required", field)


async def _read(part: BodyPartReader, field: str, max_bytes: int, idle_timeout_s: float) -> AsyncIterator[bytes]:
    num_bytes = 0
    while not part.at_eof():
        chunk = await in_time(part.read_chunk(), field, idle_timeout_s)
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(field, max_bytes)
        yield chunk
    if part.headers.get("Content-Length", str(num_bytes)) != str(num_bytes):
        raise unreadable(field)


async def in_time(reading: Awaitable[T], field: str, idle_timeout_s: float) -> T:
    try:
        async with asyncio.timeout(idle_timeout_s):
            return await reading
    except TimeoutError as error:
        raise HearthError(Code.TIMEOUT, "the request body did not arrive in time") from error
    except _MALFORMED as error:
        raise unreadable(field) from error


def unreadable(field: str) -> HearthError:
    return HearthError(Code.INVALID, "the request body is no readable multipart/form-data", field)


def _too_large(field: str, max_bytes: int) -> HearthError:
    message = f"{field}: at most {max_bytes} bytes in one request; for a larger one ask :getUploadEndpoint"
    return HearthError(Code.TOO_LARGE, message, field)
