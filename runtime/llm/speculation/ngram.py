"""Guesses that what followed the last few tokens earlier in prompt or output follows them again."""

from collections.abc import Sequence

from runtime.llm.speculation.token_index import TokenIndex

PROMPT_TOKENS_MAX = 16_384
"""Of the prompt's end: indexing takes time and memory for each."""


class NgramProposer:
    """`match_length`: so many tokens must have been seen before, at best; two at least."""

    def __init__(self, prompt_token_ids: Sequence[int], match_length: int) -> None:
        self._prompt_token_ids = prompt_token_ids
        self._match_length = match_length
        self._index: TokenIndex | None = None
        """Made at the first question: a request that always runs among many is never asked."""
        self._num_seen = 0

    def propose(self, output_token_ids: Sequence[int], max_tokens: int) -> list[int]:
        if self._index is None:
            self._index = TokenIndex(self._prompt_token_ids[-PROMPT_TOKENS_MAX:])
        self._index.extend(output_token_ids[self._num_seen :])
        self._num_seen = len(output_token_ids)
        tokens = self._index.token_ids
        start = self._index.find(tokens[-self._match_length :], before=len(tokens))
        if start is None:
            return []
        # A match that overlaps the end goes on in circles: its continuation is the period.
        period = tokens[start:]
        return [period[i % len(period)] for i in range(max_tokens)]
