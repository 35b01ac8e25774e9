"""The tokens of a request, counted as clients are told: a prompt once, however many choices it has."""

import msgspec

from appliance.errors import Code, HearthError
from runtime.protocol import Delta, Usage


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int


class UsageInfo(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Totals:
    def __init__(self, num_prompts: int, num_choices: int) -> None:
        self._num_choices = num_choices
        self._prompts: list[Usage | None] = [None] * num_prompts
        self._num_completion_tokens = 0
        self._num_reasoning_tokens = 0
        self.num_unfinished = num_prompts * num_choices

    def add(self, delta: Delta) -> None:
        """Count a choice's last delta."""
        assert delta.usage is not None, "a choice finished without its usage"
        prompt = delta.index // self._num_choices
        known = self._prompts[prompt]
        if known is None or delta.usage.num_cached_tokens < known.num_cached_tokens:
            self._prompts[prompt] = delta.usage  # other choices find what the first one computed
        self._num_completion_tokens += delta.usage.num_completion_tokens
        self._num_reasoning_tokens += delta.usage.num_reasoning_tokens
        self.num_unfinished -= 1

    def check_complete(self) -> None:
        if self.num_unfinished:
            raise HearthError(Code.INTERNAL, "the answer ended before it was complete")

    def usage(self) -> UsageInfo:
        prompts = [usage for usage in self._prompts if usage is not None]
        num_prompt_tokens = sum(usage.num_prompt_tokens for usage in prompts)
        return UsageInfo(
            prompt_tokens=num_prompt_tokens,
            completion_tokens=self._num_completion_tokens,
            total_tokens=num_prompt_tokens + self._num_completion_tokens,
            prompt_tokens_details=PromptTokensDetails(sum(usage.num_cached_tokens for usage in prompts)),
            completion_tokens_details=CompletionTokensDetails(self._num_reasoning_tokens),
        )
