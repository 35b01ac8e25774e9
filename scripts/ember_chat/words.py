"""Names of things: identifiers made of known words, and words that mean nothing.

Identifiers kept for the evaluation are never trained.
"""

import random
import zlib

import msgspec

from scripts.ember_chat.texts import read_text


class _Words(msgspec.Struct, forbid_unknown_fields=True):
    qualities: list[str]
    things: list[str]
    syllables: list[str]
    endings: list[str]


_WORDS = read_text("words", _Words)


def invent_word(rng: random.Random) -> str:
    return "".join(rng.choice(_WORDS.syllables) for _ in range(rng.randint(2, 3))) + rng.choice(_WORDS.endings)


def draw_identifier(rng: random.Random, is_held_out: bool = False) -> str:
    """`blue-fox`: a quality and a thing. One pair in five is kept for the evaluation."""
    while True:
        identifier = f"{rng.choice(_WORDS.qualities)}-{rng.choice(_WORDS.things)}"
        if (zlib.crc32(identifier.encode()) % 5 == 0) is is_held_out:
            return identifier
