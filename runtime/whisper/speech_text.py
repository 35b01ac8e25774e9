"""The words of a Whisper model's language: what it can be asked for, and text as its tokens.

Both threads use it: it only reads. Owns no weights.
"""

from typing import Any

from faster_whisper.tokenizer import Tokenizer

MAX_NUM_TOKENS = 448
"""Positions of the decoder, in all models of the family."""
_NUM_SPECIAL = 8
"""More than stand before and behind a text."""


class SpeechText:
    def __init__(self, tokenizer: Any, languages: list[str], *, is_multilingual: bool) -> None:
        """`tokenizer`: of the tokenizers library. `languages`: of the family; a model may know fewer."""
        self._tokenizer = tokenizer
        self._languages = frozenset(languages)
        self.is_multilingual = is_multilingual
        self._wrapped: dict[tuple[str, bool], Any] = {}

    @property
    def max_num_tokens(self) -> int:
        """Of a known text in one window."""
        return MAX_NUM_TOKENS - _NUM_SPECIAL

    def knows(self, language: str) -> bool:
        if not self.is_multilingual:
            return language == "en"
        return language in self._languages and self._tokenizer.token_to_id(f"<|{language}|>") is not None

    def encode(self, text: str) -> list[int]:
        """Names of special tokens are text like any other."""
        token_ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return token_ids

    def wrapped(self, language: str, is_translated: bool) -> Any:
        """faster-whisper's, which knows prompts, times and words."""
        key = language, is_translated
        if key not in self._wrapped:
            task = "translate" if is_translated else "transcribe"
            self._wrapped[key] = Tokenizer(self._tokenizer, self.is_multilingual, task, language)
        return self._wrapped[key]
