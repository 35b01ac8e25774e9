"""Signed URLs: what somebody without a key may do with one file, once, for a day.

A signature covers every name and number that decides where bytes go or come from, so that a URL is good for exactly
one file in one direction.
"""

import hmac
import re
from collections.abc import Collection

import msgspec

from appliance import base64url
from appliance.errors import Code, HearthError
from models.folder import DEPTH_MAX

URL_LIFETIME_S = 24 * 3600.0

_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_COMPRESSED = (".gz", ".br")
"""Not taken: asked for the file without its ending, a server of files may send these in its place."""
_SIGNATURE_BYTES = 32


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What one URL allows."""

    collection: str
    """models or datasets."""
    account_id: str
    resource_id: str
    directory: str
    """The resource's folder: a later resource of the same name has another."""
    filename: str
    is_upload: bool
    size_bytes: int
    """Of an upload: announced, and exact."""
    is_resumable: bool
    """Of an upload: what arrived before it broke is kept."""
    expires_at: float


def is_filename(text: str) -> bool:
    """Flat names of letters that mean nothing to any file system or shell."""
    return _FILENAME.fullmatch(text) is not None and not text.endswith(_COMPRESSED)


def check_filename(filename: str, param: str) -> None:
    """Raises `invalid` for what is none."""
    if not is_filename(filename):
        raise HearthError(
            Code.INVALID,
            f"{param}: {filename[:200]!r} is no file name that can be taken: letters, digits, '.', '_', '-', "
            "and no compressed file",
            param,
        )


def is_path(text: str) -> bool:
    """A file's name, or one inside few folders with names of the same kind, as `unet/config.json`."""
    steps = text.split("/")
    return len(steps) <= DEPTH_MAX + 1 and all(is_filename(step) for step in steps)


def check_paths(paths: Collection[str], param: str) -> None:
    """Raises `invalid` for a path that is none, or goes through another one's file."""
    for path in paths:
        if not is_path(path):
            check_filename(path.rpartition("/")[2], param)
            raise HearthError(
                Code.INVALID,
                f"{param}: {path[:200]!r} does not lie in at most {DEPTH_MAX} folders of such names",
                param,
            )
    for path in paths:
        steps = path.split("/")
        for end in range(1, len(steps)):
            if "/".join(steps[:end]) in paths:
                raise HearthError(Code.INVALID, f"{param}: {path} lies in a file", param)


def sign(grant: Grant, key: bytes) -> str:
    payload = msgspec.msgpack.encode(grant)
    return base64url.encode(_signature(payload, key) + payload)


def verify(token: str, filename: str, is_upload: bool, key: bytes, now: float) -> Grant:
    """Raises `forbidden` for every token that this key did not sign for this file and direction, or that is too old."""
    try:
        signed = base64url.decode(token)
    except ValueError as error:
        raise _refused() from error
    signature, payload = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(payload, key)):
        raise _refused()
    grant = msgspec.msgpack.decode(payload, type=Grant)
    if (grant.filename, grant.is_upload) != (filename, is_upload) or grant.expires_at <= now:
        raise _refused()
    return grant


def _signature(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")


def _refused() -> HearthError:
    return HearthError(Code.FORBIDDEN, "the signed URL is not valid, or no longer; ask for a new one")
