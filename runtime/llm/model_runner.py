"""One batch of the scheduler becomes one forward of the model, and its last rows become tokens.

Flattens all requests' tokens into a single row, tells attention where each request's keys are, computes logits only
where a token is to be drawn. Reads requests, never changes them; knows nothing of queues, blocks' owners or clients.
"""

from time import perf_counter
from typing import Any

import torch

from runtime.llm.attention_gather import GatherAttention, Span
from runtime.llm.forward_context import use_attention
from runtime.llm.linear import Packing
from runtime.llm.request import Batch, SampledToken
from runtime.llm.sampler import SampledRow, sample


class ModelRunner:
    """`model` is a `…ForCausalLM` whose attention is `attention.attend`."""

    def __init__(self, model: Any, attention: GatherAttention, packing: Packing) -> None:
        self._model = model
        self._decoder = getattr(model, model.base_model_prefix)
        self._attention = attention
        self._device = attention.device
        self._packing = packing
        self._last_forward_s = 0.0

    def execute(self, batch: Batch) -> list[SampledToken]:
        """Write the KV of every scheduled token; one sampled token per row that wants it, in the batch's order."""
        token_ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = []
        logit_rows: list[int] = []
        sampled_rows: list[SampledRow] = []
        for request, num_tokens, is_sampled in batch.scheduled:
            start = request.num_computed_tokens
            stop = start + num_tokens
            spans.append(Span(len(token_ids), num_tokens, start, request.block_ids))
            token_ids += request.token_ids(start, stop)
            positions += range(start, stop)
            if is_sampled:
                logit_rows.append(len(token_ids) - 1)
                sampled_rows.append(SampledRow(request.sampling, request.seed, stop, request.num_logprobs))
        # While layers are left to pack each step takes twice as long, so that none stalls; the first takes no longer.
        self._packing.advance(self._last_forward_s)
        started_at = perf_counter()
        with torch.inference_mode():
            with use_attention(self._attention.prepare(spans)):
                logits = self._forward(token_ids, positions, logit_rows)
            sampled = sample(logits, sampled_rows) if logits is not None else []
        self._last_forward_s = perf_counter() - started_at
        return sampled

    def _forward(self, token_ids: list[int], positions: list[int], logit_rows: list[int]) -> torch.Tensor | None:
        # use_cache is said aloud because the config's default would build a second cache.
        inputs = {
            "input_ids": torch.tensor([token_ids], device=self._device),
            "position_ids": torch.tensor([positions], device=self._device),
            "use_cache": False,
        }
        if not logit_rows:
            self._decoder(**inputs)
            return None
        rows = torch.tensor(logit_rows, device=self._device)
        logits: torch.Tensor = self._model(**inputs, logits_to_keep=rows).logits[0]
        return logits
