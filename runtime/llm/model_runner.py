"""One batch of the scheduler becomes one forward of the model, and its last rows become tokens.

Nobody waits for the device meanwhile, so that the next step can follow before this one's tokens are known here.
A row's draft is computed with it, and the sampler chooses a token at each of its positions; those that the draft had
guessed, and the one after them, are the row's result. Reads requests, never changes them; knows nothing of queues,
blocks' owners or clients.
"""

from collections.abc import Mapping
from itertools import zip_longest
from time import perf_counter
from typing import Any, NamedTuple

import torch

from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.block_pool import TRASH_BLOCK
from runtime.llm.forward import Computed, Followers, Forward, TokenRow, Vision
from runtime.llm.graphs import StepGraphs
from runtime.llm.linear import Packing
from runtime.llm.masks import MaskFiller, PendingMasks
from runtime.llm.prompt_logprobs import PromptToken, prompt_logprobs, wanted_tokens
from runtime.llm.request import Batch, Request, RequestStatus, RowResult, SampledToken, ScheduledRequest
from runtime.llm.sampler import Sampled, SampledRow, sample
from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.speculation.verification import accepted_part
from runtime.llm.transfer import Arrival
from runtime.submission import SamplingParams

_REST_S = 0.01
"""A request that comes in the meantime waits for so long."""


_UNKNOWN_TOKEN_ID = 0
"""Stands where the device puts another."""


class _DeviceTokens(NamedTuple):
    """What a step has chosen, where the next one finds it without the host."""

    token_ids: torch.Tensor | None = None
    places: Mapping[tuple[str, int], int] = {}
    """By choice and not by request, which would keep alive what a finished one holds."""


class ModelRunner:
    """`model` is a `…ForCausalLM` whose attention is `attention.attend`."""

    def __init__(
        self,
        model: Any,
        attention: GatherAttention,
        packing: Packing,
        vision: Vision | None = None,
        adaptation: Adaptation | None = None,
        sampling_kernels: SamplingKernels | None = None,
        graphs: StepGraphs | None = None,
        followers: Followers | None = None,
    ) -> None:
        self._forward = Forward(model, attention, vision, adaptation, graphs, followers)
        self._device = attention.device
        self._packing = packing
        self._sampling_kernels = sampling_kernels
        config = model.config.get_text_config()
        self._mask_filler = MaskFiller(config.vocab_size)
        self._max_context_length = getattr(config, "max_position_embeddings", 0)
        self._tokens = _DeviceTokens()
        """Of the last step that was sampled."""
        self._last_step_s = 0.0
        """That the host spent on it, which on a CPU is all of it."""

    def warm_up(self) -> None:
        """One token through every layer: pages are read, kernels chosen, buffers there. Its KV is overwritten later.

        Kernels of the sampler are compiled where they are first called, so the token is drawn where there are any.
        """
        request = Request(
            request_id="warm-up",
            prompt_token_ids=[0],
            sampling=SamplingParams(temperature=0) if self._sampling_kernels is None else SamplingParams(top_p=0.9),
            max_tokens=1,
            block_ids=[TRASH_BLOCK + 1],
        )
        self.execute(Batch([ScheduledRequest(request, 1, True)]))
        self._forward.warm_up(self._max_context_length)
        self._last_step_s = 0.0  # the first request has waited for the load, let it not wait for packing, too

    def rest(self) -> bool:
        """Pack for a moment or capture a step, since there are no requests; whether there is more to do.

        No step is longer for the next.
        """
        self._last_step_s = 0.0
        self._packing.advance(_REST_S)
        has_more = self._forward.rest()
        return bool(self._packing) or has_more

    def execute(self, batch: Batch) -> list[RowResult]:
        """A whole step, which nobody looks ahead of."""
        step = self.launch(batch)
        step.sample()
        return step.results()

    def launch(self, batch: Batch) -> "Step":
        """Have the KV of every scheduled token written. Rows that await a token get it from the last step sampled."""
        # While layers are left to pack each step takes twice as long, so that none stalls; the first takes no longer.
        self._packing.advance(self._last_step_s)
        started_at = perf_counter()
        masks = self._mask_filler.begin([row for row in batch.scheduled if not row.awaits_token])
        plan = _Plan(batch)
        rows = [_token_row(row, self._tokens.places) for row in batch.scheduled]
        computed = self._forward.compute(
            rows, plan.sampled_positions, self._tokens.token_ids, asked_rows=plan.asked_positions
        )
        logits = computed.logits(plan.sampled_positions) if plan.sampled_positions else None
        self._last_step_s = perf_counter() - started_at
        return Step(self, plan, computed, logits, masks)

    def end(self) -> Arrival:
        """Of all that the device was given."""
        return Arrival([], self._device)

    def choose(self, plan: "_Plan", logits: torch.Tensor, masks: PendingMasks) -> Sampled:
        """Have the tokens of a step chosen, as its requests are now."""
        started_at = perf_counter()
        awaiting = [row for row in plan.batch.scheduled if row.awaits_token]
        masks.include(self._mask_filler.begin([row for row in awaiting if not _has_finished(row)]))
        with torch.inference_mode():
            sampled = sample(logits, plan.sampled_rows(masks), self._sampling_kernels)
        self._tokens = _DeviceTokens(sampled.token_ids, plan.places)
        self._last_step_s += perf_counter() - started_at
        return sampled


class Step:
    """A batch on its way; `sample`, then `results`, each once."""

    def __init__(
        self, runner: ModelRunner, plan: "_Plan", computed: Computed, logits: torch.Tensor | None, masks: PendingMasks
    ) -> None:
        self._runner = runner
        self._plan = plan
        self._computed: Computed | None = computed
        self._logits = logits
        """Of the rows that are sampled; None: there are none."""
        self._masks = masks
        self._sampled: Sampled | None = None
        self._end: Arrival | None = None
        """Of a step that samples nothing."""
        self._in_prompt: list[SampledToken] = []

    def sample(self) -> None:
        """Have the tokens chosen, behind the forward; what its requests have got by now counts."""
        assert self._computed is not None, "sampled already"
        if self._logits is not None:
            self._sampled = self._runner.choose(self._plan, self._logits, self._masks)
        else:
            self._end = self._runner.end()
        if self._plan.prompt_tokens:
            self._in_prompt = prompt_logprobs(self._plan.prompt_tokens, self._computed.logits)
        self._computed = self._logits = None  # their memory is the next step's

    def results(self) -> list[RowResult]:
        """Wait for the step; a result for each row, in the batch's order."""
        if self._end is not None:
            self._end.wait()
        sampled = [] if self._sampled is None else self._sampled.tokens()
        return self._plan.results(sampled, self._in_prompt, self._masks)


class _Plan:
    """Which logits of a batch are wanted, and for what; made before the step, as the requests are then."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.sampled_positions: list[int] = []
        """In the flattened batch: the last token of each row that is sampled, and its draft."""
        self.places: dict[tuple[str, int], int] = {}
        """By choice: where its first token is among the sampled ones."""
        self.prompt_tokens: list[PromptToken] = []
        self._next_positions: list[int] = []
        """By row: of the token that follows its last one, in prompt and output."""
        self._num_prompt_tokens: list[int] = []
        """Of `prompt_tokens`, by row."""
        first = 0
        for row in batch.scheduled:
            self._add(row, first)
            first += row.num_tokens + len(row.draft_token_ids)

    @property
    def asked_positions(self) -> list[int]:
        """In the flattened batch, ascending: of all logits that are wanted."""
        if not self.prompt_tokens:
            return self.sampled_positions
        return sorted({*self.sampled_positions, *(token.row for token in self.prompt_tokens)})

    def sampled_rows(self, masks: PendingMasks) -> list[SampledRow]:
        """What the sampler is told, as the requests are now. Nobody asks for the tokens of those that have finished."""
        rows: list[SampledRow] = []
        for row, position in zip(self.batch.scheduled, self._next_positions, strict=True):
            if row.is_sampled:
                lengths = range(len(row.draft_token_ids) + 1)
                for length, mask in zip_longest(lengths, masks.of(row)):
                    draft = row.draft_token_ids[:length]
                    rows.append(SampledRow.of(row.request, draft, mask, position=position))
        return rows

    def results(
        self, sampled: list[SampledToken], in_prompt: list[SampledToken], masks: PendingMasks
    ) -> list[RowResult]:
        """By row, from what the sampler and the prompts' logprobs gave for all of them together."""
        results = []
        sampled_start = prompt_start = 0
        for row, num_prompt_tokens in zip(self.batch.scheduled, self._num_prompt_tokens, strict=True):
            sampled_stop = sampled_start + row.is_sampled + len(row.draft_token_ids)
            prompt_stop = prompt_start + num_prompt_tokens
            tokens = accepted_part(sampled[sampled_start:sampled_stop], row.draft_token_ids)
            tokens = tokens[: len(masks.of(row))]  # behind the last mask nothing holds a token to the constraint
            failure = masks.failure_of(row)
            results.append(RowResult(tokens, in_prompt[prompt_start:prompt_stop], failure=failure))
            sampled_start, prompt_start = sampled_stop, prompt_stop
        return results

    def _add(self, row: ScheduledRequest, first: int) -> None:
        request, start, stop = row.request, row.start, row.start + row.num_tokens
        self._next_positions.append(stop)
        if row.is_sampled:
            self.places[_choice(request)] = len(self.sampled_positions)
            last = first + row.num_tokens - 1
            self.sampled_positions += range(last, last + len(row.draft_token_ids) + 1)
        wanted: list[PromptToken] = []
        if request.num_prompt_logprobs:
            wanted = wanted_tokens(request, start, stop, first)
            self.prompt_tokens += wanted
        self._num_prompt_tokens.append(len(wanted))


def _token_row(row: ScheduledRequest, places: Mapping[tuple[str, int], int]) -> TokenRow:
    request, start = row.request, row.start
    if row.awaits_token:
        follows = places[_choice(request)]
        return TokenRow([_UNKNOWN_TOKEN_ID], start, request.block_ids, request.images, request.adapter, follows)
    token_ids = request.token_ids(start, start + row.num_tokens)
    token_ids = [*token_ids, *row.draft_token_ids] if row.draft_token_ids else token_ids
    return TokenRow(token_ids, start, request.block_ids, request.images, request.adapter)


def _choice(request: Request) -> tuple[str, int]:
    return request.request_id, request.index


def _has_finished(row: ScheduledRequest) -> bool:
    return row.request.status is RequestStatus.FINISHED
