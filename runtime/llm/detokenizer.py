"""One choice's tokens become text, piece by piece: never half a character, never anything of a stop string.

What may still turn out to be either is held back until it is decided. Pieces add up to the same text however the
tokens are cut, up to the first stop string.
"""

from codecs import getincrementaldecoder
from collections.abc import Set

from runtime.llm.vocabulary import Vocabulary

_Utf8Decoder = getincrementaldecoder("utf-8")


class Detokenizer:
    """`starts_text`: the text is one of its own, not the continuation of a prompt.

    `shown`: special tokens that are text here, because the answer's parsers need to see them.
    """

    def __init__(
        self, vocabulary: Vocabulary, stop: list[str], *, starts_text: bool, shown: Set[int] = frozenset()
    ) -> None:
        self.is_stopped = False
        """A stop string is complete; there is no more text."""
        self._vocabulary = vocabulary
        self._stop = stop
        self._shown = shown
        self.num_characters = 0
        """Of all text so far, held back or not."""
        # Bytes that no continuation can make valid become U+FFFD, as a decoder of the whole would have it.
        self._utf8 = _Utf8Decoder("replace")
        self._num_spaces_to_strip = vocabulary.num_stripped_spaces if starts_text else 0
        self._held = ""

    def add(self, token_id: int) -> str:
        """The text that is certain after one more token."""
        assert not self.is_stopped
        text = self._decode(self._vocabulary.text_bytes(token_id, self._shown))
        self.num_characters += len(text)
        if not self._stop:
            return text
        self._held += text
        return self._release()

    def echo(self, prompt_token_ids: list[int]) -> str:
        """The text of prompt tokens, before anything is added: it is shown, and no stop string is looked for in it."""
        return self._decode(b"".join(map(self._vocabulary.text_bytes, prompt_token_ids)))

    def finish(self) -> str:
        """The text held back for stop strings that never came. Bytes of an unfinished character are dropped."""
        text, self._held = self._held, ""
        return text

    def _decode(self, data: bytes) -> str:
        text = self._utf8.decode(data)
        return self._strip(text) if self._num_spaces_to_strip and text else text

    def _strip(self, text: str) -> str:
        stripped = text.lstrip(" ")
        num_spaces = min(len(text) - len(stripped), self._num_spaces_to_strip)
        self._num_spaces_to_strip = 0 if stripped else self._num_spaces_to_strip - num_spaces
        return text[num_spaces:]

    def _release(self) -> str:
        # The stop string that is complete first ends the text; of several that are complete with the same character
        # it is the longest. So the result is the same as if characters had come one by one.
        found = [(start + len(stop), start) for stop in self._stop if (start := self._held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            end = min(found)[1]
            text, self._held = self._held[:end], ""
            return text
        end = len(self._held) - self._num_characters_to_hold()
        text, self._held = self._held[:end], self._held[end:]
        return text

    def _num_characters_to_hold(self) -> int:
        """Length of the longest suffix that a stop string begins with."""
        longest = min(len(self._held), max(map(len, self._stop)) - 1)
        for length in range(longest, 0, -1):
            suffix = self._held[-length:]
            if any(stop.startswith(suffix) for stop in self._stop):
                return length
        return 0
