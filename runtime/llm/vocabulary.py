"""A model's tokenizer: text to token ids, and the bytes that each token id stands for.

Bytes, not text: a token may hold half a character. The decoder in tokenizer.json is read as data and applied to one
token at a time, which is exact for the two families that language models use (byte-level BPE, and SentencePiece
pieces with or without byte fallback); a tokenizer with any other decoder is refused at load.
"""

import re
from collections.abc import Set
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
from tokenizers import Tokenizer

from runtime.engine import LoadRefused

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class _Decoder(msgspec.Struct, frozen=True, tag_field="type", tag=True):
    """One step from tokens to text, under its name in tokenizer.json."""


class ByteLevel(_Decoder, frozen=True, tag_field="type"):
    """Every character of a token stands for a byte."""


class Pattern(msgspec.Struct, frozen=True, rename={"text": "String"}):
    text: str


class Replace(_Decoder, frozen=True, tag_field="type"):
    pattern: Pattern
    content: str


class ByteFallback(_Decoder, frozen=True, tag_field="type"):
    """Tokens such as <0x0A> stand for a byte."""


class Fuse(_Decoder, frozen=True, tag_field="type"):
    """From here on the whole text is meant, not a token."""


class Strip(_Decoder, frozen=True, tag_field="type"):
    content: Literal[" "]
    start: int
    stop: Literal[0]


class Metaspace(_Decoder, frozen=True, tag_field="type"):
    replacement: str
    prepend_scheme: str = "always"


class Sequence(_Decoder, frozen=True, tag_field="type"):
    decoders: list[ByteLevel | Replace | ByteFallback | Fuse | Strip | Metaspace]


class _TokenizerFile(msgspec.Struct, frozen=True):
    decoder: ByteLevel | Metaspace | Sequence


class Vocabulary:
    """Raises LoadRefused for a tokenizer that cannot be used; pure after that, but for its memory of tokens seen."""

    def __init__(self, tokenizer_json: bytes) -> None:
        try:
            decoder = msgspec.json.decode(tokenizer_json, type=_TokenizerFile).decoder
        except msgspec.DecodeError as error:
            raise LoadRefused(f"tokenizer.json: its decoder is not supported: {error}") from error
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # the library raises nothing more specific
            raise LoadRefused(f"tokenizer.json cannot be used: {error}") from error
        # Leftovers of training that would silently shorten or fill up prompts.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._steps: list[_Decoder] = list(decoder.decoders) if isinstance(decoder, Sequence) else [decoder]
        self.num_stripped_spaces = sum(map(_num_stripped_spaces, self._steps))
        """So many spaces at the beginning of a text are an artefact of the tokenizer."""
        added = self._tokenizer.get_added_tokens_decoder()
        self.added_token_ids = {token.content: token_id for token_id, token in added.items()}
        """By text: tokens beside those of the model proper, special ones and others, such as the markup of calls."""
        self._special_token_ids = {token_id for token_id, token in added.items() if token.special}
        self.special_tokens = sorted(token.content for token in added.values() if token.special)
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, model_dir: Path) -> "Vocabulary":
        return cls((model_dir / "tokenizer.json").read_bytes())

    @cached_property
    def token_length_max(self) -> int:
        """Found out when it is first asked for, since it takes a tenth of a second."""
        return max(map(len, self._tokenizer.get_vocab()))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        token_ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return token_ids

    def encode_around(self, text: str, mark: str) -> list[int]:
        """The tokens of a text in which `mark`, a character, separates what would be one token; without the mark's."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return [token_id for token_id, (start, end) in spans if text[start:end] != mark]

    def special_token_id(self, token: str) -> int | None:
        """The id of this token if it is one that adds nothing to a text."""
        token_id = self.token_id(token)
        return token_id if token_id in self._special_token_ids else None

    def is_same(self, other: "Vocabulary") -> bool:
        """Whether every token has the same id in both."""
        return bool(self._tokenizer.get_vocab() == other._tokenizer.get_vocab())

    def token_id(self, token: str) -> int | None:
        token_id: int | None = self._tokenizer.token_to_id(token)
        return token_id

    def token_bytes(self, token_id: int) -> bytes:
        """What the token stands for, special ones included; nothing for an id without a token."""
        found = self._bytes.get(token_id)
        if found is None:
            token = self._tokenizer.id_to_token(token_id)
            found = self._bytes[token_id] = b"" if token is None else self._decode(token)
        return found

    def whole_text(self, token_ids: list[int]) -> str:
        """Of these tokens, special ones by their names."""
        return b"".join(map(self.token_bytes, token_ids)).decode(errors="replace")

    def text_bytes(self, token_id: int, shown: Set[int] = frozenset()) -> bytes:
        """What the token adds to a text: special tokens add nothing, but for those in `shown`."""
        if token_id in self._special_token_ids and token_id not in shown:
            return b""
        return self.token_bytes(token_id)

    def _decode(self, token: str) -> bytes:
        for step in self._steps:
            match step:
                case ByteLevel():
                    return _decode_byte_level(token)
                case ByteFallback():
                    if byte := _BYTE_TOKEN.fullmatch(token):
                        return bytes.fromhex(byte[1])
                case Replace(pattern, content):
                    token = token.replace(pattern.text, content)
                case Metaspace(replacement):
                    token = token.replace(replacement, " ")
        return token.encode()


def _num_stripped_spaces(step: _Decoder) -> int:
    match step:
        case Strip(start=start):
            return start
        case Metaspace(prepend_scheme=scheme) if scheme != "never":
            return 1
    return 0


def _byte_by_character() -> dict[str, int]:
    """The alphabet of byte-level BPE: printable bytes are themselves, the others follow from U+0100 in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_BY_CHARACTER = _byte_by_character()


def _decode_byte_level(token: str) -> bytes:
    try:
        return bytes([_BYTE_BY_CHARACTER[character] for character in token])
    except KeyError:
        return token.encode()  # an added token, written as plain text
