"""What the sampler is told of one row of logits: the rules, and what they depend on beside the logits.

Everything in it is the request's own, so that a row's result depends on nothing else in the batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.llm.request import Request
from runtime.llm.sampling.token_counts import TokenCounts
from runtime.submission import SamplingParams


class SampledRow(NamedTuple):
    """Made by `of`; the other way is for tests of the sampler alone."""

    params: SamplingParams
    """Normalised (`limits.py`)."""
    seed: int
    position: int
    """Of the token to be drawn, in prompt and output."""
    num_logprobs: int | None
    mask: NDArray[np.int32] | None = None
    """Bit i % 32 of word i // 32: whether token i may come. Tokens beyond its end may not. None: every token may."""
    token_counts: TokenCounts | None = None
    """None: nothing came before, or no rule looks at it."""
    draft_token_ids: Sequence[int] = ()
    """Guesses between the request's last token and `position`, counted by penalties as if they were output."""
    mirostat_mu: float | None = None
    """None: at its start."""

    @classmethod
    def of(
        cls,
        request: Request,
        draft_token_ids: Sequence[int] = (),
        mask: NDArray[np.int32] | None = None,
        *,
        position: int | None = None,
    ) -> "SampledRow":
        """The row that draws what follows the request's last token and then the draft.

        `position`: of what follows the request's last token, where the host does not know that token yet.
        """
        if request.token_counts is not None:
            request.token_counts.catch_up(request.output_token_ids)
        return cls(
            request.sampling,
            request.seed,
            (request.num_tokens if position is None else position) + len(draft_token_ids),
            request.num_logprobs,
            mask,
            request.token_counts,
            draft_token_ids,
            request.mirostat_mu,
        )

    @property
    def is_greedy(self) -> bool:
        return self.params.temperature == 0

    @property
    def adjusts_logits(self) -> bool:
        """Whether any rule comes before the temperature."""
        params = self.params
        return (
            self.mask is not None
            or bool(params.logit_bias)
            or params.repetition_penalty != 1
            or params.frequency_penalty != 0
            or params.presence_penalty != 0
        )

    @property
    def is_mirostat(self) -> bool:
        return self.params.mirostat_target is not None and self.params.temperature > 0
