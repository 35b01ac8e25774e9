"""Which words of a stretch of speech are certain while it is still spoken. Pure: knows no sound, model or message.

The stretch is heard again and again as it grows. A word that two hearings in turn agree on, and all words before it, is
confirmed: it is said and never changes, whatever later hearings make of it. The words behind are tentative.
"""

import unicodedata
from collections.abc import Sequence
from itertools import takewhile

import msgspec

from runtime.tasks.speech import Word

NEAR_END_S = 0.1
"""A word that ends so close to the end of the sound may have been cut: it is not confirmed by agreement."""
_MISPLACED_COST = 0.01
"""For a second between two hearings of a word: decides only between alignments that are alike otherwise."""


class Confirmation:
    """Of one stretch, from its first hearing to its last."""

    def __init__(self, confirmed: Sequence[Word] = (), tentative: Sequence[Word] = ()) -> None:
        self.confirmed = list(confirmed)
        self.tentative = list(tentative)

    @property
    def words(self) -> list[Word]:
        """As they stand, each saying whether it is final."""
        return self.confirmed + self.tentative

    def hear(self, words: Sequence[Word], end_s: float) -> list[Word]:
        """A hearing of the whole stretch, whose sound ends there; returns what it confirms."""
        rest = self._unconfirmed(words)
        agreed = [
            word
            for word, before in takewhile(
                lambda pair: is_same(pair[0].word, pair[1].word), zip(rest, self.tentative, strict=False)
            )
        ]
        settled = list(takewhile(lambda word: word.end <= end_s - NEAR_END_S, agreed))
        return self._settle(settled, rest[len(settled) :])

    def end(self, words: Sequence[Word]) -> list[Word]:
        """The last hearing: all that it holds behind the confirmed words is confirmed, too."""
        return self._settle(self._unconfirmed(words), [])

    def end_at(self, time_s: float) -> list[Word]:
        """No further hearing: the tentative words that begin before `time_s` are confirmed, the others forgotten."""
        return self._settle([word for word in self.tentative if word.start < time_s], [])

    def split(self, num_words: int) -> tuple["Confirmation", "Confirmation"]:
        """Of so many confirmed words, and of the rest."""
        before, behind = self.confirmed[:num_words], self.confirmed[num_words:]
        return Confirmation(before), Confirmation(behind, self.tentative)

    def _settle(self, settled: Sequence[Word], tentative: Sequence[Word]) -> list[Word]:
        placed = _in_order([*settled, *tentative], self.confirmed[-1].end if self.confirmed else None)
        new = [msgspec.structs.replace(word, is_final=True) for word in placed[: len(settled)]]
        self.confirmed = self.confirmed + new
        self.tentative = [msgspec.structs.replace(word, is_final=False) for word in placed[len(settled) :]]
        return new

    def _unconfirmed(self, words: Sequence[Word]) -> Sequence[Word]:
        """What a hearing holds behind the confirmed words, though it may have heard some of those differently."""
        return words[num_matching(self.confirmed, words) :]


def num_matching(known: Sequence[Word], heard: Sequence[Word]) -> int:
    """How many words from the beginning of `heard` say what `known` says: with the fewest words changed, left out and
    added, and if that can be had in several ways, where the last ones end at most alike."""
    costs = [float(row) for row in range(len(known) + 1)]
    best, best_cost = 0, costs[-1]
    for column, word in enumerate(heard, start=1):
        diagonal, costs[0] = costs[0], float(column)
        for row, other in enumerate(known, start=1):
            changed = diagonal + (not is_same(word.word, other.word))
            diagonal, costs[row] = costs[row], min(changed, costs[row] + 1, costs[row - 1] + 1)
        cost = costs[-1] + (abs(word.end - known[-1].end) * _MISPLACED_COST if known else 0.0)
        if cost < best_cost:
            best, best_cost = column, cost
    return best


def is_same(one: str, other: str) -> bool:
    """But for case, spaces and punctuation, on which hearings of the same speech differ."""
    return _bare(one) == _bare(other)


def _bare(word: str) -> str:
    letters = "".join(character for character in word.casefold() if unicodedata.category(character)[0] not in "PZ")
    return letters or word.strip()


def _in_order(words: Sequence[Word], after_s: float | None) -> list[Word]:
    """None begins before its predecessor has ended: each hearing has times of its own."""
    placed: list[Word] = []
    earliest = after_s
    for word in words:
        if earliest is not None and word.start < earliest:
            word = msgspec.structs.replace(word, start=earliest, end=max(word.end, earliest))
        placed.append(word)
        earliest = word.end
    return placed
