"""The nouns of the LLM engine: a request, what a step computes of it, and what comes out.

A request has no phases. `num_computed_tokens` advances towards `num_tokens`; prefill, chunked prefill, decode, a
prefix-cache hit and the resumption after a preemption differ only in how far apart the two are.
"""

from array import array
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.llm.sampling.token_counts import TokenCounts
from runtime.llm.timeline import Timeline
from runtime.protocol import Performance
from runtime.submission import SamplingParams

FinishReason = Literal["stop", "length"]


class TokenConstraint(Protocol):
    """What decides which tokens may come next in one choice: a grammar, a cap on thinking, or both in turn.

    Belongs to one request and is driven by the engine's thread. An exception out of it ends that request alone.
    """

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        """Set bit i % 32 of `mask[i // 32]` for each token i that may come next, clear the others.

        False: every token may come, and the mask was not written.
        """

    def accept(self, token_id: int) -> None:
        """This token came. Raises ValueError when it was not allowed."""

    def roll_back(self, num_tokens: int) -> None:
        """Forget the last tokens that were accepted."""

    @property
    def is_complete(self) -> bool:
        """Nothing but the end may follow."""


class RequestStatus(Enum):
    WAITING = auto()  # holds no blocks
    RUNNING = auto()  # holds blocks for every token it has
    FINISHED = auto()  # holds no blocks; `finish_reason` says why, None when aborted


class Adapter(Protocol):
    """Weights that change what the model computes for the requests that name them; `adapters/adapter.py`."""

    @property
    def digest(self) -> bytes:
        """Of what they are; part of the prefix cache's key."""


class PromptImage(NamedTuple):
    """One image in a prompt: tokens `start` to `start + num_tokens` stand for it."""

    start: int
    num_tokens: int
    digest: bytes
    """Of what the encoder sees; part of the prefix cache's key."""
    pixels: NDArray[np.uint8]
    """[height, width, 3], scaled as the model wants it."""
    grid: tuple[int, int, int]
    """Patches in time, height and width."""


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
    num_prompt_logprobs: int = 0
    """So many of the prompt's last tokens want their logprobs, `num_logprobs` alternatives each; fewer than all."""
    constraint: TokenConstraint | None = None
    prediction: list[int] = field(default_factory=list)
    """What the client expects as output."""
    images: Sequence[PromptImage] = ()
    """In the prompt's order."""
    adapter: Adapter | None = None
    """None: the model as it is."""
    cache_namespace: bytes = b""
    cache_max_tokens: int | None = None
    """Prompt tokens that may be taken from the prefix cache at most."""
    tenant: str = ""
    is_watched: bool = False
    """Somebody behind the engine may end it at any token, such as at a stop string."""

    # Written by the engine.
    timeline: Timeline = field(default_factory=Timeline)

    # Written by the engine, after a step.
    output_token_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    """Tokens whose KV is in `block_ids`."""
    finish_reason: FinishReason | None = None
    mirostat_mu: float | None = None
    """As the last token left it; None before the first."""
    prompt_logprobs: list["SampledToken"] = field(default_factory=list)
    """Found so far, in the prompt's order; they leave with the first token, and then no more are wanted."""

    # Written by the sampler.
    token_counts: TokenCounts | None = None
    """A cache of what the tokens say, so it survives preemption; None unless a penalty looks at it."""

    # Written by the scheduler.
    status: RequestStatus = RequestStatus.WAITING
    block_ids: MutableSequence[int] = field(default_factory=lambda: array("i"))
    """The block table: token i lives in block `block_ids[i // block_size]`, slot `i % block_size`. An array, so that a
    step of many long requests takes it as it is."""
    num_preemptions: int = 0
    num_queued_tokens: int = 0
    """What it counts for in a bounded queue: its prompt, less what another choice computes for it."""
    num_cached_tokens: int = 0
    """Prompt tokens found in the prefix cache when the request first ran."""

    # Written by the prefix cache.
    block_digests: list[bytes] = field(default_factory=list)
    """Of the full blocks hashed so far; a function of the tokens, so it survives preemption."""
    num_published_blocks: int = 0

    def __post_init__(self) -> None:
        if self.token_counts is None:
            self.token_counts = TokenCounts.of(self.sampling, self.prompt_token_ids)

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
    """Compute `num_tokens` of this request behind those that are computed or on their way, then the draft."""

    request: Request
    num_tokens: int
    is_sampled: bool
    """Whether the last of them is the request's last token, so that its logits give the next one."""
    draft_token_ids: Sequence[int] = ()
    """Guesses of what comes next, verified in the same step; only with `is_sampled`."""
    num_ahead: int = 0
    """Of the request's tokens, those that the step before computes, which is still on its way."""
    awaits_token: bool = False
    """Its one token is what the step before will have sampled; the host does not know it yet."""

    @property
    def start(self) -> int:
        """Position of the first token; asked for only until the step before is retired."""
        return self.request.num_computed_tokens + self.num_ahead


class Batch(NamedTuple):
    """What one step computes: decode rows (one token, sampled) first, then prefill chunks."""

    scheduled: list[ScheduledRequest]


class SampledToken(NamedTuple):
    token_id: int
    logprob: float | None
    """Of the raw distribution; None unless the request asks for logprobs."""
    top: list[tuple[int, float]]
    """Token ids and logprobs of the most likely tokens, best first; empty unless asked."""
    mirostat_mu: float | None = None
    """The request's, once it takes this token; None without mirostat."""


class RowResult(NamedTuple):
    """What a step brought one scheduled row."""

    tokens: Sequence[SampledToken] = ()
    """None unless `is_sampled`; else one more than the accepted ones of the draft."""
    prompt_logprobs: Sequence[SampledToken] = ()
    """Of the prompt tokens in this row that want them."""
    is_computed: bool = True
    """False: nothing was done for this row, which waits for an image to be encoded; a later step schedules it again."""
    failure: Exception | None = None
    """What went wrong with this row alone; it has no other result then."""


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
    prompt_logprobs: list[SampledToken] = []
    """With the first token: those that the request wanted."""
    performance: Performance | None = None
    """So far, without the tokenizer's part; with `finish_reason`, and always for a request that is watched."""
    ends_sentence: bool = False
    """It stopped because a constraint allows nothing more: unlike a stop token, this one is text."""


class RequestFailed(NamedTuple):
    """The engine's own work on this request raised; all its choices are gone. Details are in the log."""

    request_id: str
