"""What a model thought and what it said, told apart while it writes. Cuts in the text do not matter.

A thought stands between two markers at the beginning of an answer; space around the markers belongs to them. What
does not begin with a thought is all text, whatever markers it holds.
"""

from typing import NamedTuple

from models.text_reader import Malformed, Reader, Step, Text


class ThoughtMarkers(NamedTuple):
    begin: str
    end: str


class Thought(NamedTuple):
    text: str


Piece = Thought | Text


class ReasoningParser:
    """`is_thinking`: the prompt ends inside a thought. `feed` as text comes, then `finish` once."""

    def __init__(self, markers: ThoughtMarkers, *, is_thinking: bool) -> None:
        self.is_thinking = is_thinking
        self.is_over = False
        """No thought will follow."""
        self.num_thought_characters = 0
        """All markup included, once the thought has ended; 0 if there was none."""
        self._markers = markers
        self._reader = Reader()
        self._pieces: list[Piece] = []
        self._steps = self._parse()

    def feed(self, text: str) -> list[Piece]:
        self._reader.append(text)
        return self._advance()

    def finish(self) -> list[Piece]:
        """What was held back."""
        self._reader.end()
        return self._advance()

    def _advance(self) -> list[Piece]:
        next(self._steps, None)
        pieces, self._pieces = self._pieces, []
        return pieces

    def _parse(self) -> Step[None]:
        if self.is_thinking or (yield from self._begins()):
            yield from self._think()
        self.is_over = not self.is_thinking
        while text := (yield from self._reader.take_all()):
            self._pieces.append(Text(text))

    def _begins(self) -> Step[bool]:
        self._reader.hold()
        try:
            yield from self._reader.skip_space()
            self.is_thinking = yield from self._reader.take_if(self._markers.begin)
        except Malformed:  # endless space
            self.is_thinking = False
        held = self._reader.take_back()
        if held and not self.is_thinking:
            self._pieces.append(Text(held))
        return self.is_thinking

    def _think(self) -> Step[None]:
        end = (self._markers.end,)
        yield from self._reader.skip_space()
        while text := (yield from self._reader.take_text(end)):
            self._pieces.append(Thought(text))
        if (yield from self._ends()):
            self.is_thinking = False
            self.num_thought_characters = self._reader.num_read
            yield from self._reader.skip_space()

    def _ends(self) -> Step[bool]:
        yield from self._reader.skip_space()
        return (yield from self._reader.take_if(self._markers.end))
