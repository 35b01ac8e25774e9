"""What `image_editing.py` is asked for and answers. The daemon knows these alone: no decoder is loaded into it."""

import msgspec


class FindEdges(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    image: bytes
    low: float
    high: float


class MaskTransparent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """White where `mask` is transparent, black where it is not."""

    image: bytes
    """What the mask belongs to: both have one size."""
    mask: bytes


Edit = FindEdges | MaskTransparent


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    png: bytes = b""
    error: str | None = None
    """Why there is none; shown to the client."""
