"""A runner without a model: the next token is a pure function of the tokens before it and of the request's seed.

It keeps a shadow of KV memory. What a real runner would compute from a token and its whole prefix is here a digest of
exactly that, written to the slot that the block table names; every computed token then reads its prefix back through
the table. Any block that is stale, shared wrongly or written by somebody else shows up at once.
"""

from collections.abc import Sequence

from runtime.llm.block_pool import TRASH_BLOCK
from runtime.llm.request import Batch, Request, RowResult, SampledToken, ScheduledRequest
from runtime.llm.speculation.verification import accepted_part
from runtime.submission import SamplingParams

VOCAB_SIZE = 50
STOP_TOKEN_ID = 7


def make_request(
    prompt_token_ids: list[int],
    *,
    request_id: str = "r",
    index: int = 0,
    seed: int = 0,
    max_tokens: int = 16,
    cache_namespace: bytes = b"",
    prediction: Sequence[int] = (),
) -> Request:
    return Request(
        request_id=request_id,
        index=index,
        prompt_token_ids=prompt_token_ids,
        sampling=SamplingParams(),
        seed=seed,
        max_tokens=max_tokens,
        stop_token_ids=frozenset({STOP_TOKEN_ID}),
        cache_namespace=cache_namespace,
        prediction=list(prediction),
    )


def next_token_id(request: Request, draft_token_ids: Sequence[int] = ()) -> int:
    """How the prompt and output continue as they stand, or as if the draft had been put out too."""
    return hash((_states(request, request.num_tokens, draft_token_ids)[-1], request.seed)) % VOCAB_SIZE


def generate_alone(request: Request) -> list[int]:
    """All that the request should ever put out, found without an engine."""
    alone = make_request(
        request.prompt_token_ids,
        seed=request.seed,
        max_tokens=request.max_tokens,
        cache_namespace=request.cache_namespace,
    )
    output = alone.output_token_ids
    while len(output) < alone.max_tokens and STOP_TOKEN_ID not in output:
        output.append(next_token_id(alone))
    return output


class ScriptedRunner:
    """Checks every batch it is handed."""

    def __init__(self, num_blocks: int, block_size: int, *, max_num_requests: int, max_batch_tokens: int) -> None:
        self.batch_sizes: list[int] = []
        """Tokens computed, by step."""
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._max_num_requests = max_num_requests
        self._max_batch_tokens = max_batch_tokens
        self._slots: dict[tuple[int, int], int] = {}

    def execute(self, batch: Batch) -> list[RowResult]:
        self._check_shape(batch)
        for row in batch.scheduled:
            self._write(row)
        for row in batch.scheduled:
            self._read_back(row)
        self.batch_sizes.append(sum(map(_num_computed, batch.scheduled)))
        return [self._result(row) for row in batch.scheduled]

    def _result(self, row: ScheduledRequest) -> RowResult:
        if not row.is_sampled:
            return RowResult()
        draft = row.draft_token_ids
        chosen = [next_token_id(row.request, draft[:length]) for length in range(len(draft) + 1)]
        return RowResult(accepted_part([SampledToken(token_id, None, []) for token_id in chosen], draft))

    def _check_shape(self, batch: Batch) -> None:
        rows = batch.scheduled
        assert rows, "an empty step"
        assert len({id(row.request) for row in rows}) == len(rows) <= self._max_num_requests
        assert sum(map(_num_computed, rows)) <= self._max_batch_tokens
        assert all(row.num_tokens > 0 for row in rows)
        is_decode = [row.num_tokens == 1 and row.is_sampled for row in rows]
        assert is_decode == sorted(is_decode, reverse=True), "decode rows come first"
        for row in rows:
            assert row.is_sampled == (row.request.num_computed_tokens + row.num_tokens == row.request.num_tokens)
            assert row.is_sampled or not row.draft_token_ids, "a draft behind nothing"

    def _write(self, row: ScheduledRequest) -> None:
        start = row.request.num_computed_tokens
        states = _states(row.request, start + row.num_tokens, row.draft_token_ids)
        for i in range(start, len(states)):
            self._slots[self._slot(row.request, i)] = states[i]

    def _read_back(self, row: ScheduledRequest) -> None:
        request = row.request
        states = _states(request, request.num_computed_tokens + row.num_tokens, row.draft_token_ids)
        found = [self._slots.get(self._slot(request, i)) for i in range(len(states))]
        assert found == states, f"{request.request_id}/{request.index} reads another prefix's KV"

    def _slot(self, request: Request, i: int) -> tuple[int, int]:
        block_id = request.block_ids[i // self._block_size]
        assert block_id != TRASH_BLOCK
        assert block_id < self._num_blocks
        return block_id, i % self._block_size


def _num_computed(row: ScheduledRequest) -> int:
    return row.num_tokens + len(row.draft_token_ids)


def _states(request: Request, num_tokens: int, draft_token_ids: Sequence[int] = ()) -> list[int]:
    """What stands in the slot of each token: it covers every token so far and who may share them."""
    states = []
    state = hash(tuple(request.cache_namespace))
    for token_id in [*request.token_ids(0, num_tokens), *draft_token_ids]:
        state = hash((state, token_id))
        states.append(state)
    return states
