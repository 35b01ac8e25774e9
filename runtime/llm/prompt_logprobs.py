"""Logprobs of prompt tokens: which of them a step can tell, and what they are.

A token's logprob stands in the logits of the token before it, so the first one of a prompt has none. Logits are made
for so few rows at a time that a long prompt needs no more memory than a full batch of answers.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from models.sizing import LOGIT_ROWS_MIN
from runtime.llm.request import Request, SampledToken
from runtime.llm.sampling.logprobs import TokenLogprobs
from runtime.llm.transfer import indices_on

ROWS_AT_ONCE = 2 * LOGIT_ROWS_MIN
"""A logprob takes less than half the memory of a draw, for which so many rows are reserved at least."""

ComputeLogits = Callable[[list[int]], torch.Tensor]
"""Rows of the flattened batch → their logits."""


class PromptToken(NamedTuple):
    """One whose logprob is wanted."""

    row: int
    """Of the token before it, in the flattened batch."""
    token_id: int
    num_logprobs: int


def wanted_tokens(request: Request, start: int, stop: int, first_row: int) -> list[PromptToken]:
    """Those that the step tells which computes tokens `start` to `stop`; `first_row` is that of token `start`.

    Tokens come in the prompt's order, and none twice: a preempted request goes on where it was.
    """
    num_prompt_tokens = len(request.prompt_token_ids)
    next_wanted = num_prompt_tokens - request.num_prompt_logprobs + len(request.prompt_logprobs)
    return [
        PromptToken(first_row + i - 1 - start, request.prompt_token_ids[i], request.num_logprobs or 0)
        for i in range(max(next_wanted, start + 1), min(num_prompt_tokens, stop + 1))
    ]


def prompt_logprobs(wanted: list[PromptToken], compute_logits: ComputeLogits) -> list[SampledToken]:
    """In the order of `wanted`."""
    found: list[SampledToken] = []
    for start in range(0, len(wanted), ROWS_AT_ONCE):
        some = wanted[start : start + ROWS_AT_ONCE]
        logits = compute_logits([token.row for token in some])
        token_ids, nums_top = [token.token_id for token in some], [token.num_logprobs for token in some]
        logprobs = TokenLogprobs.of(logits, indices_on(logits.device, token_ids), max(nums_top))
        found += logprobs.tell(token_ids, nums_top)
    return found
