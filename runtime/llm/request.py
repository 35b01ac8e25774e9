"""The nouns of the LLM engine: a request, what a step computes of it, and what comes out.

A request has no phases. `num_computed_tokens` advances towards `num_tokens`; prefill, chunked prefill, decode, a
prefix-cache hit and the resumption after a preemption differ only in how far apart the two are.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, NamedTuple

import msgspec

from runtime.protocol import SamplingParams

FinishReason = Literal["stop", "length"]


class RequestStatus(Enum):
    WAITING = auto()  # holds no blocks
    RUNNING = auto()  # holds blocks for every token it has
    FINISHED = auto()  # holds no blocks; `finish_reason` says why, None when aborted


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One choice of one client call. Choices of a call share `request_id` and the prompt's list."""

    request_id: str
    index: int = 0
    prompt_token_ids: list[int]
    """At least one token; never changed."""
    sampling: SamplingParams
    seed: int = 0
    """0 <= seed < 2**64, of this choice alone; `sampling.seed` is what the client said."""
    max_tokens: int
    stop_token_ids: frozenset[int] = frozenset()
    num_logprobs: int | None = None
    """None: no logprobs; k: the chosen token's and the k most likely ones'."""
    cache_namespace: bytes = b""

    # Written by the engine, after a step.
    output_token_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    """Tokens whose KV is in `block_ids`."""
    finish_reason: FinishReason | None = None

    # Written by the scheduler.
    status: RequestStatus = RequestStatus.WAITING
    block_ids: list[int] = field(default_factory=list)
    """The block table: token i lives in block `block_ids[i // block_size]`, slot `i % block_size`."""
    num_preemptions: int = 0
    num_cached_tokens: int = 0
    """Prompt tokens found in the prefix cache when the request first ran."""

    # Written by the prefix cache.
    block_digests: list[bytes] = field(default_factory=list)
    """Of the full blocks hashed so far; a function of the tokens, so it survives preemption."""
    num_published_blocks: int = 0

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.output_token_ids)

    @property
    def num_missing_tokens(self) -> int:
        """Tokens to compute until the next can be sampled; 1 while decoding."""
        return len(self.prompt_token_ids) + len(self.output_token_ids) - self.num_computed_tokens

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Tokens `start` to `stop` of prompt and output together."""
        num_prompt_tokens = len(self.prompt_token_ids)
        if start >= num_prompt_tokens:
            return self.output_token_ids[start - num_prompt_tokens : stop - num_prompt_tokens]
        if stop <= num_prompt_tokens:
            return self.prompt_token_ids[start:stop]
        return self.prompt_token_ids[start:] + self.output_token_ids[: stop - num_prompt_tokens]


class Generation(NamedTuple):
    """One client call: what the frontend hands the engine."""

    request_id: str
    choices: list[Request]


class ScheduledRequest(NamedTuple):
    """Compute tokens `num_computed_tokens` to `num_computed_tokens + num_tokens` of this request."""

    request: Request
    num_tokens: int
    is_sampled: bool
    """Whether the last of them is the request's last token, so that its logits give the next one."""


class Batch(NamedTuple):
    """What one step computes: decode rows (one token, sampled) first, then prefill chunks."""

    scheduled: list[ScheduledRequest]


class SampledToken(NamedTuple):
    token_id: int
    logprob: float | None
    """Of the raw distribution; None unless the request asks for logprobs."""
    top: list[tuple[int, float]]
    """Token ids and logprobs of the most likely tokens, best first; empty unless asked."""


class TokenOutput(msgspec.Struct, frozen=True, gc=False):
    """One generated token on its way out."""

    request_id: str
    index: int
    token_id: int
    logprob: float | None
    top: list[tuple[int, float]]
    finish_reason: FinishReason | None
    num_prompt_tokens: int
    num_cached_tokens: int


class RequestFailed(NamedTuple):
    """The engine's own work on this request raised; all its choices are gone. Details are in the log."""

    request_id: str
