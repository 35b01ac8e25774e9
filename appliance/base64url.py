"""Bytes in letters that a URL takes, without padding (RFC 4648, section 5); each has one spelling."""

import base64


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Raises ValueError for what `encode` does not write."""
    content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # Python takes '+' and '/' as well, and any bits of the last letter that carry nothing.
    if encode(content) != text:
        raise ValueError("not the spelling that is written")
    return content
