"""Random models and given texts, held to a constraint token by token as the sampler holds them."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer
from runtime.llm.grammar.matcher import GrammarMatcher
from runtime.llm.request import TokenConstraint
from runtime.llm.vocabulary import Vocabulary
from tests.fakes.tiny_tokenizers import build_byte_level_tokenizer

_TEXT_TOKENIZER = build_byte_level_tokenizer()
VOCABULARY = Vocabulary(_TEXT_TOKENIZER.to_str().encode())
VOCAB_SIZE = _TEXT_TOKENIZER.get_vocab_size() + 20
"""As many models have it: logits for more tokens than there are."""
END_TOKEN_ID = 1
_CLOSERS = {_TEXT_TOKENIZER.token_to_id(token) for token in ('"', "}", "]")} | {END_TOKEN_ID}


def _load() -> GrammarTokenizer:
    with TemporaryDirectory() as directory:
        (Path(directory) / "tokenizer.json").write_text(_TEXT_TOKENIZER.to_str())
        return GrammarTokenizer.load(Path(directory), VOCAB_SIZE, [END_TOKEN_ID])


TOKENIZER = _load()


def begin(lark: str) -> GrammarMatcher:
    matcher = TOKENIZER.compile('%llguidance {"no_forcing": true}\n' + lark)
    assert not matcher.is_error(), matcher.get_error()
    return GrammarMatcher(matcher, TOKENIZER)


def allowed(constraint: TokenConstraint) -> list[int]:
    """Ids of the tokens that may come next."""
    mask = np.zeros(-(-VOCAB_SIZE // 32), dtype=np.int32)
    if not constraint.fill_mask(mask):
        return list(range(VOCAB_SIZE))
    return bits(mask)


def bits(mask: NDArray[np.int32]) -> list[int]:
    return [int(index) for index in np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))]


def tokens_of(text: str) -> list[int]:
    return VOCABULARY.encode(text, add_special_tokens=False)


def writes(constraint: TokenConstraint, text: str) -> bool:
    """Whether the constraint allows these tokens and then the end."""
    for token_id in tokens_of(text):
        if constraint.is_complete or token_id not in allowed(constraint):
            return False
        constraint.accept(token_id)
    return constraint.is_complete or END_TOKEN_ID in allowed(constraint)


def walk(constraint: TokenConstraint, rng: random.Random, *, max_tokens: int = 600, patience: int = 30) -> str | None:
    """What a model writes whose logits are noise; it longs for an end after a while. None: it found none."""
    text = b""
    for num_tokens in range(max_tokens):
        if constraint.is_complete:
            return text.decode()
        choices = allowed(constraint)
        closers = [token_id for token_id in choices if token_id in _CLOSERS]
        if closers and num_tokens > patience and rng.random() < 0.8:
            choices = closers
        token_id = rng.choice(choices)
        constraint.accept(token_id)
        if token_id == END_TOKEN_ID:
            return text.decode()
        text += VOCABULARY.token_bytes(token_id)
    return None
