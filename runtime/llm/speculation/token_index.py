"""Where in a row of tokens does what was said last stand already? An index of token pairs that grows with the row.

Each pair knows where it last ended, and each such place the one before it, as in a hash chain; of the places that the
chain leads to, the one that agrees with the longest suffix wins. Memory is one entry for each token.
"""

from collections.abc import Iterable, Sequence

MATCH_LENGTH_MIN = 2
_CHAIN_LENGTH_MAX = 32
"""Places looked at: a pair that stands everywhere says little, and must not cost much."""


class TokenIndex:
    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self.token_ids: list[int] = []
        self._last_stop: dict[tuple[int, int], int] = {}
        self._previous_stop: list[int] = [0]
        """By stop: the next older stop of the same pair, 0 for none. A stop is the position behind a pair."""
        self.extend(token_ids)

    def extend(self, token_ids: Iterable[int]) -> None:
        tokens = self.token_ids
        for token_id in token_ids:
            tokens.append(token_id)
            stop, previous = len(tokens), 0
            if stop >= MATCH_LENGTH_MIN:
                pair = (tokens[-2], token_id)
                previous = self._last_stop.get(pair, 0)
                self._last_stop[pair] = stop
            self._previous_stop.append(previous)

    def find(self, suffix: Sequence[int], before: int | None = None) -> int | None:
        """The position behind the longest match with the end of `suffix`, all of it if possible; of equals the latest.

        Only positions smaller than `before` are looked at. None when not even the last two tokens are found.
        """
        if len(suffix) < MATCH_LENGTH_MIN:
            return None
        stop = self._last_stop.get((suffix[-2], suffix[-1]), 0)
        found, longest = None, 0
        for _ in range(_CHAIN_LENGTH_MAX):
            if not stop or longest == len(suffix):
                break
            if (before is None or stop < before) and (length := self._match_length(suffix, stop)) > longest:
                found, longest = stop, length
            stop = self._previous_stop[stop]
        return found

    def _match_length(self, suffix: Sequence[int], stop: int) -> int:
        length = MATCH_LENGTH_MIN
        while length < min(len(suffix), stop) and self.token_ids[stop - length - 1] == suffix[-length - 1]:
            length += 1
        return length
