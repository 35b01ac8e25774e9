"""Page tokens: the place of a page's last resource, signed, so that nobody makes one and none fits another list."""

import hmac
from typing import Any

import msgspec
from aiohttp import web

from appliance import base64url
from appliance.errors import Code, HearthError

SIGNATURE_BYTES = 16


class PageTokens:
    """Signs with a key that outlives the daemon, so that a list may be read on after a restart."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, list_name: str, place: list[Any]) -> str:
        """`list_name`: one line that says which list, and how it was asked for."""
        content = msgspec.json.encode(place)
        return base64url.encode(self._signature(list_name, content) + content)

    def read(self, token: str, list_name: str) -> list[Any]:
        """The place; raises `invalid` for a token that this list did not give out."""
        try:
            signed = base64url.decode(token)
        except ValueError as error:
            raise _refusal() from error
        signature, content = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(list_name, content)):
            raise _refusal()
        place: list[Any] = msgspec.json.decode(content)
        return place

    def _signature(self, list_name: str, content: bytes) -> bytes:
        return hmac.digest(self._key, list_name.encode() + b"\n" + content, "sha256")[:SIGNATURE_BYTES]


PAGE_TOKENS = web.AppKey("page_tokens", PageTokens)


def _refusal() -> HearthError:
    message = "pageToken: this list, asked for in this way, did not give it out; filter and orderBy must stay the same"
    return HearthError(Code.INVALID, message, "pageToken")
