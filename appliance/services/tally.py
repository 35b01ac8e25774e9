"""What one request uses, counted as its answer comes, so that one which never finishes is counted too. Pure."""

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Generic, TypeVar

from appliance.domain import TokenCounts
from runtime.protocol import AnyPiece, Delta

ItemT = TypeVar("ItemT")


class Tally(ABC, Generic[ItemT]):
    num_prompt_tokens: int
    num_completion_tokens: int

    @property
    @abstractmethod
    def has_begun(self) -> bool:
        """Whether anything of an answer came."""

    @property
    @abstractmethod
    def is_finished(self) -> bool: ...

    @property
    @abstractmethod
    def knows_prompts(self) -> bool:
        """Whether a worker has counted all of what it was sent."""

    @property
    @abstractmethod
    def counts(self) -> TokenCounts: ...

    @abstractmethod
    def add(self, items: list[ItemT]) -> None: ...


class PieceTally(Tally[AnyPiece]):
    """Of a task that is no generation: every piece says what it used."""

    def __init__(self) -> None:
        self.num_prompt_tokens = 0
        self.num_completion_tokens = 0
        self._audio_ms = self._num_images = 0
        self._has_begun = self._has_last = False

    @property
    def has_begun(self) -> bool:
        return self._has_begun

    @property
    def is_finished(self) -> bool:
        return self._has_last

    @property
    def knows_prompts(self) -> bool:
        return self._has_last

    @property
    def counts(self) -> TokenCounts:
        return TokenCounts(
            num_requests=int(self._has_begun),
            num_prompt_tokens=self.num_prompt_tokens,
            audio_ms=self._audio_ms,
            num_images=self._num_images,
        )

    def add(self, items: list[AnyPiece]) -> None:
        for piece in items:
            self._has_begun = True
            self._has_last = piece.is_last
            self.num_prompt_tokens += piece.used.num_prompt_tokens
            self._audio_ms += piece.used.audio_ms
            self._num_images += piece.used.num_images


class DeltaTally(Tally[Delta]):
    """Of a generation. A worker's usage at the end of a choice is what counts in the end."""

    def __init__(self, num_prompts: int, num_choices: int) -> None:
        """`num_choices`: of each prompt."""
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.num_completion_tokens = 0
        self.num_unfinished = num_prompts * num_choices
        self._num_prompts = num_prompts
        self._num_choices = num_choices
        self._prompts: dict[int, tuple[int, int]] = {}
        """Length, and how much of it was cached for the choice that found the least."""
        self._by_choice: defaultdict[int, int] = defaultdict(int)

    @property
    def has_begun(self) -> bool:
        return bool(self._by_choice)

    @property
    def is_finished(self) -> bool:
        return self.num_unfinished == 0

    @property
    def knows_prompts(self) -> bool:
        return len(self._prompts) == self._num_prompts

    @property
    def counts(self) -> TokenCounts:
        return TokenCounts(
            num_requests=int(self.has_begun),
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_completion_tokens=self.num_completion_tokens,
        )

    def add(self, items: list[Delta]) -> None:
        for delta in items:
            num_new = len(delta.token_ids)
            self._by_choice[delta.index] += num_new
            self.num_completion_tokens += num_new
            if delta.num_prompt_tokens:
                self._note_prompt(delta.index, delta.num_prompt_tokens, delta.num_cached_tokens)
            if (usage := delta.usage) is not None:
                self._note_prompt(delta.index, usage.num_prompt_tokens, usage.num_cached_tokens)
                self.num_completion_tokens += usage.num_completion_tokens - self._by_choice[delta.index]
                self._by_choice[delta.index] = usage.num_completion_tokens
                self.num_unfinished -= 1

    def _note_prompt(self, choice: int, num_tokens: int, num_cached: int) -> None:
        prompt = choice // self._num_choices
        known, known_cached = self._prompts.get(prompt, (0, num_cached))
        num_cached = min(num_cached, known_cached)
        self._prompts[prompt] = num_tokens, num_cached
        self.num_prompt_tokens += num_tokens - known
        self.num_cached_tokens = sum(cached for _, cached in self._prompts.values())
