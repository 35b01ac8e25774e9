"""Guesses along the client's prediction: a cursor that follows the output, and finds its place again after an edit.

After a token that the prediction does not have the cursor first takes it for a replaced one and goes on behind it. If
that fails too it says nothing until the last two tokens or more are found in the prediction; so a prediction that is
all wrong is tried twice and then costs nothing.
"""

from collections.abc import Sequence

from runtime.llm.speculation.token_index import MATCH_LENGTH_MIN, TokenIndex

MATCH_LENGTH = 8
"""Tokens that are compared to tell several places apart."""
NEARBY = 64
"""So far behind the cursor the first place that fits is taken: an edit rarely moves things about."""


class PredictionProposer:
    def __init__(self, prediction: Sequence[int]) -> None:
        self._prediction = prediction
        self._cursor = 0
        """The output is taken to go on here."""
        self._num_misses = 0
        """Tokens in a row that were not the predicted ones."""
        self._num_seen = 0
        self._index: TokenIndex | None = None
        """Made when it is first needed: most predictions that hold never need it."""

    def propose(self, output_token_ids: Sequence[int], max_tokens: int) -> list[int]:
        for num_tokens in range(self._num_seen + 1, len(output_token_ids) + 1):
            self._follow(output_token_ids[max(0, num_tokens - MATCH_LENGTH) : num_tokens])
        self._num_seen = len(output_token_ids)
        if self._num_misses > 1:
            return []
        return list(self._prediction[self._cursor : self._cursor + max_tokens])

    def _follow(self, recent: Sequence[int]) -> None:
        """Take in the last of these tokens."""
        if self._num_misses <= 1 and self._prediction[self._cursor : self._cursor + 1] == recent[-1:]:
            self._num_misses = 0
            self._cursor += 1
            return
        self._num_misses += 1
        found = self._find(recent) if len(recent) >= MATCH_LENGTH_MIN else None
        if found is not None:
            self._num_misses = 0
            self._cursor = found
        elif self._num_misses == 1:
            self._cursor += 1

    def _find(self, recent: Sequence[int]) -> int | None:
        """The position behind the place where the output is now."""
        pair = recent[-MATCH_LENGTH_MIN:]
        for stop in range(self._cursor, self._cursor + NEARBY):
            if self._prediction[max(0, stop - MATCH_LENGTH_MIN) : stop] == pair:
                return stop
        if self._index is None:
            self._index = TokenIndex(self._prediction)
        return self._index.find(recent)
