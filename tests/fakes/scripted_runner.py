"""A runner without a model: the next token is a pure function of the tokens before it and of the request's seed.

It keeps a shadow of KV memory. What a real runner would compute from a token and its whole prefix is here a digest of
exactly that, written to the slot that the block table names; every computed token then reads its prefix back through
the table. Any block that is stale, shared wrongly or written by somebody else shows up at once.
"""

from runtime.llm.block_pool import TRASH_BLOCK
from runtime.llm.request import Batch, Request, SampledToken
from runtime.protocol import SamplingParams

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
    )


def next_token_id(request: Request) -> int:
    """How the prompt and output continue as they stand."""
    return hash((_states(request, request.num_tokens)[-1], request.seed)) % VOCAB_SIZE


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

    def execute(self, batch: Batch) -> list[SampledToken]:
        self._check_shape(batch)
        for request, num_tokens, _ in batch.scheduled:
            self._write(request, num_tokens)
        for request, num_tokens, _ in batch.scheduled:
            self._read_back(request, num_tokens)
        self.batch_sizes.append(sum(row.num_tokens for row in batch.scheduled))
        return [SampledToken(next_token_id(row.request), None, []) for row in batch.scheduled if row.is_sampled]

    def _check_shape(self, batch: Batch) -> None:
        rows = batch.scheduled
        assert rows, "an empty step"
        assert len({id(row.request) for row in rows}) == len(rows) <= self._max_num_requests
        assert sum(row.num_tokens for row in rows) <= self._max_batch_tokens
        assert all(row.num_tokens > 0 for row in rows)
        is_decode = [row.num_tokens == 1 and row.is_sampled for row in rows]
        assert is_decode == sorted(is_decode, reverse=True), "decode rows come first"
        for request, num_tokens, is_sampled in rows:
            assert is_sampled == (request.num_computed_tokens + num_tokens == request.num_tokens)

    def _write(self, request: Request, num_tokens: int) -> None:
        start, stop = request.num_computed_tokens, request.num_computed_tokens + num_tokens
        states = _states(request, stop)
        for i in range(start, stop):
            self._slots[self._slot(request, i)] = states[i]

    def _read_back(self, request: Request, num_tokens: int) -> None:
        stop = request.num_computed_tokens + num_tokens
        found = [self._slots.get(self._slot(request, i)) for i in range(stop)]
        assert found == _states(request, stop), f"{request.request_id}/{request.index} reads another prefix's KV"

    def _slot(self, request: Request, i: int) -> tuple[int, int]:
        block_id = request.block_ids[i // self._block_size]
        assert block_id != TRASH_BLOCK
        assert block_id < self._num_blocks
        return block_id, i % self._block_size


def _states(request: Request, num_tokens: int) -> list[int]:
    """What stands in the slot of each token: it covers every token so far and who may share them."""
    states = []
    state = hash(tuple(request.cache_namespace))
    for token_id in request.token_ids(0, num_tokens):
        state = hash((state, token_id))
        states.append(state)
    return states
