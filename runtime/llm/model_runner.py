"""One batch of the scheduler becomes one forward of the model, and its last rows become tokens.

A row's draft is computed with it, and the sampler chooses a token at each of its positions; those that the draft had
guessed, and the one after them, are the row's result. Reads requests, never changes them; knows nothing of queues,
blocks' owners or clients.
"""

from time import perf_counter
from typing import Any

import torch

from runtime.llm.adapters.adaptation import Adaptation
from runtime.llm.attention_gather import GatherAttention
from runtime.llm.block_pool import TRASH_BLOCK
from runtime.llm.forward import Forward, TokenRow, Vision
from runtime.llm.graphs import StepGraphs
from runtime.llm.linear import Packing
from runtime.llm.masks import Mask, MaskFiller, PendingMasks
from runtime.llm.prompt_logprobs import PromptToken, prompt_logprobs, wanted_tokens
from runtime.llm.request import Batch, Request, RowResult, SampledToken, ScheduledRequest
from runtime.llm.sampler import SampledRow, sample
from runtime.llm.sampling.kernels import SamplingKernels
from runtime.llm.speculation.verification import accepted_part
from runtime.submission import SamplingParams

_REST_S = 0.01
"""A request that comes in the meantime waits for so long."""


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
    ) -> None:
        self._forward = Forward(model, attention, vision, adaptation, graphs)
        self._packing = packing
        self._sampling_kernels = sampling_kernels
        config = model.config.get_text_config()
        self._mask_filler = MaskFiller(config.vocab_size)
        self._max_context_length = getattr(config, "max_position_embeddings", 0)
        self._last_forward_s = 0.0

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
        self._last_forward_s = 0.0  # the first request has waited for the load, let it not wait for packing, too

    def rest(self) -> bool:
        """Pack for a moment or capture a step, since there are no requests; whether there is more to do.

        No step is longer for the next.
        """
        self._last_forward_s = 0.0
        self._packing.advance(_REST_S)
        has_more = self._forward.rest()
        return bool(self._packing) or has_more

    def execute(self, batch: Batch) -> list[RowResult]:
        """Write the KV of every scheduled token; a result for each row, in the batch's order."""
        # While layers are left to pack each step takes twice as long, so that none stalls; the first takes no longer.
        self._packing.advance(self._last_forward_s)
        started_at = perf_counter()
        masks = self._mask_filler.begin(batch.scheduled)
        sampled_positions = _sampled_positions(batch)
        computed = self._forward.compute([_token_row(row) for row in batch.scheduled], sampled_positions)
        plan = _Plan(batch, masks)
        sampled: list[SampledToken] = []
        if sampled_positions:
            with torch.inference_mode():
                sampled = sample(computed.logits(sampled_positions), plan.sampled_rows, self._sampling_kernels)
        in_prompt = prompt_logprobs(plan.prompt_tokens, computed.logits) if plan.prompt_tokens else []
        self._last_forward_s = perf_counter() - started_at
        return plan.results(sampled, in_prompt)


class _Plan:
    """Which logits of a computed batch are wanted, and for what."""

    def __init__(self, batch: Batch, masks: PendingMasks) -> None:
        self.sampled_rows: list[SampledRow] = []
        self.prompt_tokens: list[PromptToken] = []
        self._batch = batch
        self._masks = masks
        self._num_prompt_tokens: list[int] = []
        """Of `prompt_tokens`, by row."""
        first = 0
        for row in batch.scheduled:
            self._add(row, first)
            first += row.num_tokens + len(row.draft_token_ids)

    def results(self, sampled: list[SampledToken], in_prompt: list[SampledToken]) -> list[RowResult]:
        """By row, from what the sampler and the prompts' logprobs gave for all of them together."""
        results = []
        sampled_start = prompt_start = 0
        for row, num_prompt_tokens in zip(self._batch.scheduled, self._num_prompt_tokens, strict=True):
            sampled_stop = sampled_start + row.is_sampled + len(row.draft_token_ids)
            prompt_stop = prompt_start + num_prompt_tokens
            tokens = accepted_part(sampled[sampled_start:sampled_stop], row.draft_token_ids)
            failure = self._masks.failure_of(row)
            results.append(RowResult(tokens, in_prompt[prompt_start:prompt_stop], failure=failure))
            sampled_start, prompt_start = sampled_stop, prompt_stop
        return results

    def _add(self, row: ScheduledRequest, first: int) -> None:
        request, num_tokens, is_sampled, _ = row
        if is_sampled:
            self.sampled_rows += _sampled_rows(row, self._masks.of(row))
        wanted: list[PromptToken] = []
        if request.num_prompt_logprobs:
            start = request.num_computed_tokens
            wanted = wanted_tokens(request, start, start + num_tokens, first)
            self.prompt_tokens += wanted
        self._num_prompt_tokens.append(len(wanted))


def _sampled_positions(batch: Batch) -> list[int]:
    """In the flattened batch: the last token of each row that is sampled, and its draft."""
    positions: list[int] = []
    stop = 0
    for _, num_tokens, is_sampled, draft in batch.scheduled:
        stop += num_tokens + len(draft)
        if is_sampled:
            positions += range(stop - len(draft) - 1, stop)
    return positions


def _token_row(row: ScheduledRequest) -> TokenRow:
    request, num_tokens, _, draft = row
    start = request.num_computed_tokens
    token_ids = request.token_ids(start, start + num_tokens)
    token_ids = [*token_ids, *draft] if draft else token_ids
    return TokenRow(token_ids, start, request.block_ids, request.images, request.adapter)


def _sampled_rows(row: ScheduledRequest, masks: list[Mask]) -> list[SampledRow]:
    request, draft = row.request, row.draft_token_ids
    return [SampledRow.of(request, draft[:length], mask) for length, mask in enumerate(masks)]
