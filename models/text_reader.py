"""Text that comes in pieces, read as if it were there already.

A parser is a coroutine over a Reader: it asks for the next character and is suspended until there is one. So it reads
like a parser of the whole text, and where the text was cut cannot matter to it. Never looks at a character twice
beyond a bounded stretch, so that the work is linear in the text whatever a model writes.
"""

from collections.abc import Generator
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Step = Generator[None, None, T]
"""A part of a parser; suspended while the reader has too little text."""

HELD_CHARACTERS_MAX = 65_536


class Text(NamedTuple):
    """What a parser found to be no markup."""

    text: str


class Malformed(Exception):
    """What was read is not what it seemed to be."""


class Unfinished(Malformed):
    """The text ended in the middle of what it seemed to be."""


class Reader:
    def __init__(self) -> None:
        self._text = ""
        self._position = 0
        self._num_forgotten = 0
        self._held_from: int | None = None
        self._is_ended = False

    def append(self, text: str) -> None:
        kept_from = self._position if self._held_from is None else self._held_from
        self._text = self._text[kept_from:] + text
        self._num_forgotten += kept_from
        self._position -= kept_from
        if self._held_from is not None:
            self._held_from = 0

    def end(self) -> None:
        """No more text will come."""
        self._is_ended = True

    @property
    def num_read(self) -> int:
        """Characters since the beginning."""
        return self._num_forgotten + self._position

    # ---- taking back

    def hold(self) -> None:
        """What is read from here on may turn out to be text; an earlier hold goes on."""
        if self._held_from is None:
            self._held_from = self._position

    def settle(self) -> None:
        """What was held is dealt with; hold from here on."""
        self._held_from = self._position

    def drop_hold(self) -> None:
        self._held_from = None

    def take_back(self) -> str:
        """What was held, no longer held."""
        held = "" if self._held_from is None else self._text[self._held_from : self._position]
        self._held_from = None
        return held

    def take_rest(self) -> str:
        """All that has come and was not read."""
        rest = self._text[self._position :]
        self._position = len(self._text)
        return rest

    # ---- reading

    def peek(self) -> Step[str]:
        """The next character, empty at the end."""
        if self._held_from is not None and self._position - self._held_from > HELD_CHARACTERS_MAX:
            raise Malformed
        while self._position == len(self._text):
            if self._is_ended:
                return ""
            yield
        return self._text[self._position]

    def take(self) -> Step[str]:
        """The next character; the end is not what the caller wants."""
        character = yield from self.peek()
        if not character:
            raise Unfinished
        self._position += 1
        return character

    def take_if(self, literal: str) -> Step[bool]:
        """Whether the text goes on with this; if so it is read."""
        while True:
            ahead = self._text[self._position : self._position + len(literal)]
            if ahead == literal:
                self._position += len(literal)
                return True
            if self._is_ended or not literal.startswith(ahead):
                return False
            yield

    def expect(self, literal: str) -> Step[None]:
        if not (yield from self.take_if(literal)):
            raise Unfinished if literal.startswith(self._text[self._position :]) else Malformed

    def take_while(self, characters: str) -> Step[str]:
        taken = ""
        while (character := (yield from self.peek())) and character in characters:
            self._position += 1
            taken += character
        return taken

    def skip_space(self) -> Step[None]:
        while (yield from self.peek()).isspace():
            self._position += 1

    def take_text(self, markers: tuple[str, ...]) -> Step[str]:
        """Some text ahead of the first marker and of the space before it; empty when the marker comes, or the end.

        There, space and marker are held and read; `take_marker` says which it was.
        """
        while True:
            ahead = self._text[self._position :]
            found = [(start, marker) for marker in markers if (start := ahead.find(marker)) >= 0]
            certain = min(found)[0] if found else len(ahead) - self._num_undecided(ahead, markers)
            text = ahead[:certain]
            if found or not self._is_ended:
                text = text.rstrip()
            if text or found or self._is_ended:
                self._position += len(text)
                return text
            yield

    def take_all(self) -> Step[str]:
        """Whatever has come; empty at the end."""
        while not (rest := self.take_rest()) and not self._is_ended:
            yield
        return rest

    def take_marker(self, markers: tuple[str, ...]) -> Step[str | None]:
        """Directly after `take_text` gave nothing: the marker, held together with the space before it."""
        self.hold()
        yield from self.skip_space()
        for marker in markers:
            if (yield from self.take_if(marker)):
                return marker
        return None

    def _num_undecided(self, ahead: str, markers: tuple[str, ...]) -> int:
        """Length of the longest suffix that a marker begins with."""
        if self._is_ended:
            return 0
        longest = min(len(ahead), max(map(len, markers)) - 1) if markers else 0
        for length in range(longest, 0, -1):
            if any(marker.startswith(ahead[-length:]) for marker in markers):
                return length
        return 0
