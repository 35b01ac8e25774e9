"""A model's tokenizer as llguidance needs it, and the limits that every grammar is compiled under.

The worker and the process that vets grammars make the same ones, so that what passes there passes here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

LIMITS = LLParserLimits(verbose_errors=False, step_max_items=200_000)
MESSAGE_LENGTH_MAX = 300


class GrammarTokenizer(NamedTuple):
    tokenizer: LLTokenizer
    end_token_ids: frozenset[int]
    num_mask_words: int

    @classmethod
    def load(cls, model_dir: Path, vocab_size: int, end_token_ids: Sequence[int]) -> "GrammarTokenizer":
        """`vocab_size`: width of the logits, which may exceed the tokenizer's own. Raises ValueError."""
        text = (model_dir / "tokenizer.json").read_text("utf-8")
        tokenizer = LLTokenizer(text, n_vocab=vocab_size, eos_token=list(end_token_ids) or None)
        return cls(tokenizer, frozenset(tokenizer.eos_tokens), -(-vocab_size // 32))

    def compile(self, lark: str) -> LLMatcher:
        """At the beginning of a sentence, or in its error state."""
        return LLMatcher(self.tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0, limits=LIMITS)


def brief(error: str) -> str:
    """What llguidance says, without the grammar that it quotes behind it."""
    said = error.split("\n   1 |")[0].split("<state>")[0]
    said = said.removeprefix("at 2(8): failed to compile JSON schema: ")
    return " ".join(said.split())[:MESSAGE_LENGTH_MAX]
