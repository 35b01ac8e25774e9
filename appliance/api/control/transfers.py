"""Routes of files: uploads to signed URLs, whole or in parts, and downloads from them. None takes a key."""

import re
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from appliance.api.codec import json_response, receive_chunks
from appliance.api.control.wire import Wire
from appliance.api.routing import Permission, Route, services
from appliance.errors import Code, HearthError
from appliance.services.transfers import CONTENT_RANGE, Part
from appliance.services.uploads import Span

_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})|\*)/(?P<total>[0-9]{1,18})")


class UploadedFile(Wire, frozen=True, kw_only=True):
    sha256: str
    """Of the whole file, in hexadecimal."""


class DownloadedFile(Wire, frozen=True, kw_only=True):
    """Not JSON: the bytes of the file, or a range of them."""


async def receive_file(request: web.Request) -> web.StreamResponse:
    """Upload a file to its signed URL.

    The body is the whole file, in one go. A URL that was asked for with `enableResumableUpload` also takes it in
    parts: `Content-Range: bytes 0-4194303/9000000` answers 308 with `Range: bytes=0-4194303`, which is how far the
    upload is, until the last part answers 200. `Content-Range: bytes */9000000` with no body asks how far it is.
    """
    settings = services(request).config.server
    header = request.headers.get(CONTENT_RANGE)
    progress = await services(request).transfers.receive(
        request.match_info["token"],
        request.match_info["filename"],
        None if header is None else _parse_content_range(header),
        receive_chunks(request, settings.max_file_bytes, settings.upload_idle_timeout_s),
    )
    if progress.sha256 is not None:
        return json_response(UploadedFile(sha256=progress.sha256))
    headers = {"Range": f"bytes=0-{progress.num_bytes - 1}"} if progress.num_bytes else {}
    # Cloud stores say it so: more is expected. Without a Location no client takes it for a redirect.
    return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=headers)


async def send_file(request: web.Request) -> web.StreamResponse:
    """Download a file from its signed URL, or with `Range` a part of it."""
    filename = request.match_info["filename"]
    return _file_response(await services(request).transfers.find_download(request.match_info["token"], filename))


def base_url(request: web.Request) -> str:
    """What signed URLs begin with: as configured, else as this client reached us."""
    configured = services(request).config.server.public_url
    return (configured or f"{request.scheme}://{request.host}").rstrip("/")


def _file_response(path: Path) -> web.FileResponse:
    response = web.FileResponse(
        path,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{path.name}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )
    # Changes no byte, but has the file written like any other answer: the system call that sends files by itself
    # would wait for ever for a client that reads nothing.
    response.enable_compression(web.ContentCoding.identity)
    return response


def _parse_content_range(header: str) -> Part:
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None or (match["first"] is not None and not int(match["first"]) <= int(match["last"])):
        raise HearthError(
            Code.INVALID,
            f"{CONTENT_RANGE}: expected 'bytes FIRST-LAST/TOTAL' or 'bytes */TOTAL', got {header[:60]!r}",
            CONTENT_RANGE,
        )
    span = None if match["first"] is None else Span(int(match["first"]), int(match["last"]) + 1)
    return Part(span, int(match["total"]))


ROUTES = [
    Route("PUT", "/v1/uploads/{token}/{filename:.+}", receive_file, Permission.SIGNED_URL, answer=UploadedFile),
    Route("GET", "/v1/downloads/{token}/{filename:.+}", send_file, Permission.SIGNED_URL, answer=DownloadedFile),
]
