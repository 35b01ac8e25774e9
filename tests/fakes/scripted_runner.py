"""A runner without a model: the next token is a pure function of the tokens before it and of the request's seed.

It keeps a shadow of KV memory. What a real runner would compute from a token and its whole prefix is here a digest of
exactly that, written to the slot that the block table names; every computed token then reads its prefix back through
the table. Any block that is stale, shared wrongly or written by somebody else shows up at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

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
    return _next_after(request, _states(request, request.num_tokens, draft_token_ids)[-1])


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
        self.num_run_ahead = 0
        """Steps launched before the one before was retired."""
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._max_num_requests = max_num_requests
        self._max_batch_tokens = max_batch_tokens
        self._slots: dict[tuple[int, int], int] = {}
        self.last_sampled: ScriptedStep | None = None
        self._last: ScriptedStep | None = None

    def launch(self, batch: Batch) -> "ScriptedStep":
        rows = [self._row(scheduled) for scheduled in batch.scheduled]
        self._check_shape(batch, rows)
        self.write(rows)
        for row in rows:
            self.read_back(row)
        self.batch_sizes.append(sum(map(_num_computed, batch.scheduled)))
        if self._last is not None and not self._last.is_retired:
            self.num_run_ahead += 1
        self._last = ScriptedStep(self, batch, rows)
        return self._last

    def choose(self, request: Request, state: int) -> int:
        """What follows the token of this state."""
        return _next_after(request, state)

    def write(self, rows: "list[ScriptedRow]") -> None:
        for row in rows:
            for i in range(row.start, len(row.states)):
                self._slots[self._slot(row, i)] = row.states[i]

    def read_back(self, row: "ScriptedRow") -> None:
        found = [self._slots.get(self._slot(row, i)) for i in range(len(row.states))]
        assert found == row.states, f"{row.name} reads another prefix's KV"

    def _row(self, scheduled: ScheduledRequest) -> "ScriptedRow":
        request, start = scheduled.request, scheduled.start
        token_ids = request.token_ids(0, start + scheduled.num_tokens)
        if scheduled.awaits_token:
            assert self.last_sampled is not None
            assert not self.last_sampled.is_retired
            token_ids = [*token_ids, self.last_sampled.token_id_of(request)]
        assert len(token_ids) == start + scheduled.num_tokens
        states = _states_of(request, [*token_ids, *scheduled.draft_token_ids])
        return ScriptedRow(f"{request.request_id}/{request.index}", start, states, list(request.block_ids))

    def _check_shape(self, batch: Batch, scripted: "list[ScriptedRow]") -> None:
        rows = batch.scheduled
        assert rows, "an empty step"
        assert len({id(row.request) for row in rows}) == len(rows) <= self._max_num_requests
        assert sum(map(_num_computed, rows)) <= self._max_batch_tokens
        assert all(row.num_tokens > 0 for row in rows)
        is_decode = [row.num_tokens == 1 and row.is_sampled for row in rows]
        assert is_decode == sorted(is_decode, reverse=True), "decode rows come first"
        for row in rows:
            num_known = row.request.num_tokens + row.awaits_token
            assert row.is_sampled == (row.start + row.num_tokens == num_known)
            assert row.is_sampled or not row.draft_token_ids, "a draft behind nothing"
            assert num_known < len(row.request.prompt_token_ids) + row.request.max_tokens, "no token is wanted"

    def _slot(self, row: "ScriptedRow", i: int) -> tuple[int, int]:
        block_id = row.block_ids[i // self._block_size]
        assert block_id != TRASH_BLOCK
        assert block_id < self._num_blocks
        return block_id, i % self._block_size


class ScriptedRow(NamedTuple):
    name: str
    start: int
    states: list[int]
    """Of every token up to the row's last."""
    block_ids: list[int]


class ScriptedStep:
    """Reads back when it is retired what it wrote: nobody may have got one of its blocks before then."""

    def __init__(self, runner: ScriptedRunner, batch: Batch, rows: list[ScriptedRow]) -> None:
        self.is_retired = False
        self._runner = runner
        self._batch = batch
        self.rows = rows
        self._tokens: dict[Request, list[SampledToken]] = {}

    def token_id_of(self, request: Request) -> int:
        (token,) = self._tokens[request]
        return token.token_id

    def sample(self) -> None:
        assert not self._tokens
        for row, scripted in zip(self._batch.scheduled, self.rows, strict=True):
            if row.is_sampled:
                last = len(scripted.states) - len(row.draft_token_ids) - 1
                chosen = [self._runner.choose(row.request, state) for state in scripted.states[last:]]
                self._tokens[row.request] = [SampledToken(token_id, None, []) for token_id in chosen]
        self._runner.last_sampled = self

    def results(self) -> list[RowResult]:
        self.is_retired = True
        for row in self.rows:
            self._runner.read_back(row)
        return [
            RowResult(accepted_part(self._tokens.get(row.request, []), row.draft_token_ids))
            for row in self._batch.scheduled
        ]


def _num_computed(row: ScheduledRequest) -> int:
    return row.num_tokens + len(row.draft_token_ids)


def _next_after(request: Request, state: int) -> int:
    return hash((state, request.seed)) % VOCAB_SIZE


def _states(request: Request, num_tokens: int, draft_token_ids: Sequence[int] = ()) -> list[int]:
    return _states_of(request, [*request.token_ids(0, num_tokens), *draft_token_ids])


def _states_of(request: Request, token_ids: Sequence[int]) -> list[int]:
    """What stands in the slot of each token: it covers every token so far and who may share them."""
    states = []
    state = hash(tuple(request.cache_namespace))
    for token_id in token_ids:
        state = hash((state, token_id))
        states.append(state)
    return states
