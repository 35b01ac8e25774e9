"""A second, small model that computes whatever the target computes, and before that guesses how decode rows go on.

It has KV tensors of its own under the target's block ids, as many blocks of the same size; so a block that the prefix
cache finds holds what both have computed, and nobody counts blocks twice. It proposes its best token each time
(`verification.py` says why). Its guesses are made before the target's step and its KV of refused ones is overwritten.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch

from runtime.llm.attention_gather import GatherAttention
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.linear import Packing
from runtime.llm.request import Batch, Request, ScheduledRequest
from runtime.llm.sampling.greatest import greatest_tokens


class TorchDraftModel:
    """`vocab_size`: the target's, whose logits may end earlier or later than the draft model's."""

    def __init__(
        self, model: Any, attention: GatherAttention, packing: Packing, *, vocab_size: int, relative_cost: float
    ) -> None:
        self.relative_cost = relative_cost
        self._forward = Forward(model, attention)
        self._max_context_length = getattr(model.config.get_text_config(), "max_position_embeddings", 0)
        self._packing = packing
        self._vocab_size = vocab_size
        self._computed_until: dict[tuple[str, int], int] = {}
        """By choice of the last step: where its KV ended. A draft's last token has none; once accepted it is due.

        Not by request, which would keep alive what a finished one holds.
        """
        self._last_forward_s = 0.0

    def warm_up(self) -> None:
        """Compile what else would be compiled for the first request. KV that it writes is overwritten later."""
        self._forward.warm_up(self._max_context_length)

    def propose(self, batch: Batch, lengths: Mapping[Request, int]) -> dict[Request, list[int]]:
        """Compute all that the batch does, drafts included; and for these of its decode rows a draft so long."""
        self._packing.advance(self._last_forward_s)
        started_at = perf_counter()
        drafts = self._follow(batch, lengths)
        self._last_forward_s = perf_counter() - started_at
        computed_until = {request: request.num_tokens for request in drafts}
        while unfinished := [request for request, draft in drafts.items() if len(draft) < lengths[request]]:
            rows = [
                TokenRow(drafts[request][-1:], computed_until[request], request.block_ids) for request in unfinished
            ]
            token_ids = self._best_tokens(rows, list(range(len(rows))))
            for request, token_id in zip(unfinished, token_ids, strict=True):
                drafts[request].append(token_id)
                computed_until[request] += 1
        self._computed_until = {_choice(request): position for request, position in computed_until.items()}
        return drafts

    def _follow(self, batch: Batch, lengths: Mapping[Request, int]) -> dict[Request, list[int]]:
        """The first guess behind each row that wants any."""
        rows = [self._row(scheduled) for scheduled in batch.scheduled]
        asking: list[Request] = []
        positions: list[int] = []
        stop = 0
        for row, scheduled in zip(rows, batch.scheduled, strict=True):
            stop += len(row.token_ids)
            if scheduled.request in lengths:
                asking.append(scheduled.request)
                positions.append(stop - 1)
        return {
            request: [token_id] for request, token_id in zip(asking, self._best_tokens(rows, positions), strict=True)
        }

    def _row(self, scheduled: ScheduledRequest) -> TokenRow:
        request, start = scheduled.request, scheduled.start
        first = min(start, self._computed_until.get(_choice(request), start))
        token_ids = [*request.token_ids(first, start + scheduled.num_tokens), *scheduled.draft_token_ids]
        return TokenRow(token_ids, first, request.block_ids)

    def _best_tokens(self, rows: list[TokenRow], positions: list[int]) -> list[int]:
        computed = self._forward.compute(rows, positions, asked_rows=positions)
        if not positions:
            return []
        with torch.inference_mode():
            best: list[int] = greatest_tokens(computed.logits(positions)[:, : self._vocab_size]).tolist()
        return best


def _choice(request: Request) -> tuple[str, int]:
    return request.request_id, request.index
