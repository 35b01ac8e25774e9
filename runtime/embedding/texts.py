"""Text to token ids as the model was made for: prompts, special tokens, lower case; and how much is too much.

Called by the socket thread, and by the thread that takes long work off it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers

from models.info import EmbeddingInfo
from runtime.embedding.request import Text
from runtime.engine import LoadRefused, RequestRefused
from runtime.message import FailureCode

CHARACTERS_PER_TOKEN_MAX = 64
"""Text with more of them is too long whatever it says: long runs of spaces or of letters that no vocabulary has."""


class Texts:
    def __init__(self, directory: Path, info: EmbeddingInfo, max_context_length: int) -> None:
        self.tokenizer = load_tokenizer(directory, info)
        self.max_context_length = max_context_length
        self._vocab_size = info.vocab_size
        self._prompts = info.prompts
        self._default_prompt = info.default_prompt
        self._skips_prompt = not info.includes_prompt

    def prompt(self, name: str) -> str:
        """The text that is put before inputs."""
        if not name:
            return self._prompts.get(self._default_prompt, "")
        if name not in self._prompts:
            known = ", ".join(sorted(self._prompts)) or "none"
            message = f"the model has no prompt called {name[:100]!r}; it has: {known}"
            raise RequestRefused(FailureCode.INVALID, message, "prompt_name")
        return self._prompts[name]

    def encode(self, inputs: Sequence[str | list[int]], prompt: str) -> list[Text]:
        """Raises RequestRefused, naming the input at fault."""
        limit = self.max_context_length * CHARACTERS_PER_TOKEN_MAX
        for index, item in enumerate(inputs):
            if isinstance(item, str) and len(item) + len(prompt) > limit:
                raise _invalid(index, f"has {len(item)} characters, which is more than the model can read")
        encodings = self._encode([prompt + item for item in inputs if isinstance(item, str)])
        num_unpooled = self._num_prompt_tokens(prompt) if self._skips_prompt and prompt else 0
        ids = iter(encodings)
        texts = [
            Text(next(ids).ids, num_unpooled=num_unpooled) if isinstance(item, str) else Text(item) for item in inputs
        ]
        for index, text in enumerate(texts):
            self._check(index, text, is_stranger=not isinstance(inputs[index], str))
        return texts

    def _encode(self, strings: list[str]) -> list[Any]:
        if len(strings) == 1:
            return [self.tokenizer.encode(strings[0])]  # a batch of one takes twice as long
        encodings: list[Any] = self.tokenizer.encode_batch(strings)
        return encodings

    def _check(self, index: int, text: Text, *, is_stranger: bool) -> None:
        if not text.token_ids:
            raise _invalid(index, "has no tokens")
        if text.num_tokens > self.max_context_length:
            raise _invalid(index, f"has {text.num_tokens} tokens, the model reads {self.max_context_length} at most")
        if is_stranger and not all(0 <= token_id < self._vocab_size for token_id in text.token_ids):
            raise _invalid(index, f"holds a token id that is not in the vocabulary of {self._vocab_size}")

    def _num_prompt_tokens(self, prompt: str) -> int:
        """Without the special ones that end a text."""
        encoding = self.tokenizer.encode(prompt)
        num_tokens: int = len(encoding.ids) - encoding.special_tokens_mask[-1]
        return num_tokens


def load_tokenizer(directory: Path, info: EmbeddingInfo) -> Any:
    """Raises LoadRefused for one that cannot be used."""
    try:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more specific
        raise LoadRefused(f"tokenizer.json cannot be used: {error}") from error
    # Leftovers of training that would silently shorten or fill up texts.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if info.is_lowercased:
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return tokenizer


def _invalid(index: int, message: str) -> RequestRefused:
    return RequestRefused(FailureCode.INVALID, f"input {index} {message}", "input")
