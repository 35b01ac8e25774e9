"""What the daemon and the process that quantises a model say to each other: one line of JSON each.

The daemon writes one `Quantise`; the process answers with any number of `Progress` and one `Ended`. Imports msgspec
and the standard library only.
"""

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Quantise(Message, frozen=True, kw_only=True):
    source_dir: str
    file_sha256: dict[str, str]
    """Of the files in it that were inspected; no others are opened."""
    target_dir: str
    """Is there; what an earlier attempt finished in it stays."""


class Progress(Message, frozen=True, kw_only=True, tag="progress"):
    num_bytes: int
    """Written."""
    total_bytes: int


class Ended(Message, frozen=True, kw_only=True, tag="ended"):
    refusal: str = ""
    """Why this model cannot be quantised; empty: all is written, and on the disk."""


FromQuantiser = Progress | Ended


def encode_line(message: Message) -> bytes:
    return msgspec.json.encode(message) + b"\n"
