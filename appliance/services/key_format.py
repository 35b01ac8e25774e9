"""What an API key looks like: `fw_` + public id + `_` + secret + check. Pure; stores and decides nothing.

The check lets a typing error, or a key of another system, be told from a wrong secret without a look into the store.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import NamedTuple

from appliance.names import generate_id

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH = 43  # 62**43 > 2**256
_CHECK_LENGTH = 6  # 62**6 > 2**32
_KEY = re.compile(
    rf"(?P<body>fw_(?P<id>[a-z2-7]{{12}})_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}}))"
    rf"(?P<check>[0-9A-Za-z]{{{_CHECK_LENGTH}}})"
)


class KeyParts(NamedTuple):
    id: str
    """Public: shown in lists, looked up in the store."""
    secret: str

    @property
    def secret_sha256(self) -> bytes:
        """A fast hash is right for 256 random bits: there is nothing to guess."""
        return hashlib.sha256(self.secret.encode()).digest()


def generate_key() -> KeyParts:
    return KeyParts(generate_id(12), "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH)))


def format_key(parts: KeyParts) -> str:
    body = f"fw_{parts.id}_{parts.secret}"
    return body + _check(body)


def parse_key(key: str) -> KeyParts | None:
    """None: no key of ours, or mistyped."""
    match = _KEY.fullmatch(key)
    if match is None or match["check"] != _check(match["body"]):
        return None
    return KeyParts(match["id"], match["secret"])


def _check(body: str) -> str:
    remainder = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECK_LENGTH):
        remainder, digit = divmod(remainder, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(digits)
