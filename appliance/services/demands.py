"""What a request may use, before any of it is done. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.domain import QuotaMetric, TokenCounts
from appliance.services.generation import Generation
from appliance.services.prompt_size import PromptSize, size_of
from appliance.services.targets import Target
from runtime.protocol import Submit


class Demand(NamedTuple):
    """What a request may use."""

    prompt: PromptSize
    num_generated: int = 0
    audio_ms: int = 0
    num_images: int = 0

    def of_rate(self, metric: QuotaMetric, limit: int) -> int:
        """Never more than the whole limit, and never nothing."""
        match metric:
            case QuotaMetric.PROMPT_TOKENS:
                wanted = self.prompt.likely
            case QuotaMetric.GENERATED_TOKENS:
                wanted = self.num_generated
            case _:
                wanted = 1
        return max(1, min(wanted, limit))

    @property
    def most(self) -> TokenCounts:
        return TokenCounts(
            num_prompt_tokens=self.prompt.at_most,
            num_completion_tokens=self.num_generated,
            audio_ms=self.audio_ms,
            num_images=self.num_images,
        )


def demand_of(generation: Generation, submits: Sequence[Submit], target: Target) -> Demand:
    info = target.model.info
    context = target.deployment.max_context_length or (None if info is None else info.max_context_length)
    prompt = size_of(generation.prompts).within(context, len(submits))
    longest = [tokens for tokens in (submits[0].max_tokens, context) if tokens is not None]
    return Demand(prompt, min(longest, default=0) * generation.num_choices * len(submits))
