"""Which tokens a grammar allows next in one choice: llguidance's matcher as a TokenConstraint."""

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer, brief


class GrammarMatcher:
    """`matcher` is this choice's own. A token that is refused leaves it as it was."""

    def __init__(self, matcher: LLMatcher, tokenizer: GrammarTokenizer) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._num_ends = 0
        """Tokens that said "end" after nothing else could follow; the matcher does not count those."""

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        num_words = self._tokenizer.num_mask_words
        mask[num_words:] = 0
        words = mask[:num_words]
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        if not words.any():
            raise ValueError("no token of this model goes on as the grammar wants")
        return True

    def accept(self, token_id: int) -> None:
        if self._matcher.is_stopped():
            if token_id not in self._tokenizer.end_token_ids:
                raise ValueError("the grammar's sentence is complete")
            self._num_ends += 1
        elif not self._matcher.try_consume_tokens([token_id]):
            self._check()
            raise ValueError(f"the grammar does not allow token {token_id} here")

    def roll_back(self, num_tokens: int) -> None:
        num_ends = min(num_tokens, self._num_ends)
        self._num_ends -= num_ends
        if num_tokens > num_ends and not self._matcher.rollback(num_tokens - num_ends):
            raise ValueError(f"cannot forget {num_tokens} tokens")

    @property
    def is_complete(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(brief(self._matcher.get_error()))
