"""The embedding engine's loop body: whose texts are next, compute them, hand out what came of each.

Owns every request from `add` until its last text was computed, or `abort`. What a step computes is the runner's affair;
the engine never imports torch.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

from runtime.embedding.long_step import LongStep
from runtime.embedding.pace import Pace
from runtime.embedding.request import EmbeddingRequest, Row, RowOutput
from runtime.embedding.turns import Overflow, Turns, WaitingLimits
from runtime.engine import Engine, EngineStats, Memory, RequestRefused
from runtime.message import FailureCode

LONG_STEP_S = 2.0
"""From here on a step shows signs of life, at the price of a few percent."""
STEP_WEIGHT = 0.1
"""Of the newest step in the average of their times."""


class Runner(Protocol):
    """Computes one batch on the device; `runner.py` in earnest."""

    def execute(self, rows: Sequence[Row], note_layer: Callable[[], None] = ...) -> list[RowOutput]:
        """One for each row, in any order. `note_layer` is called in every layer."""

    def rest(self) -> bool:
        """For some milliseconds do what makes later steps faster; whether more is left."""


class EmbeddingEngine(Engine[EmbeddingRequest, RowOutput]):
    def __init__(
        self,
        runner: Runner,
        memory: Memory,
        *,
        max_batch_tokens: int,
        max_num_waiting: int,
        max_num_waiting_tokens: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._runner = runner
        self._memory = memory
        self._clock = clock
        self._pace = Pace(max_batch_tokens)
        self._turns = Turns(WaitingLimits(max_num_waiting, max_num_waiting_tokens))
        self._requests: dict[str, EmbeddingRequest] = {}
        """Those with texts that wait or are in a step."""
        self._long: LongStep | None = None
        """The step that is being computed, where one takes long."""
        self._long_began_at = 0.0
        self._num_prompt_tokens = 0
        self._step_s = 0.0

    def add(self, request: EmbeddingRequest) -> None:
        overflow = self._turns.find_overflow(request)
        if overflow is not None:
            retry_after_s = self._pace.retry_after_s(self._turns.num_tokens)
            if overflow is Overflow.TENANT:
                message = "too many of your requests are waiting for this model"
                raise RequestRefused(FailureCode.RATE_LIMITED, message, retry_after_s=retry_after_s)
            message = "too many requests are waiting for this model"
            raise RequestRefused(FailureCode.OVERLOADED, message, retry_after_s=retry_after_s)
        self._turns.add(request)
        self._requests[request.request_id] = request
        self._num_prompt_tokens += request.num_tokens

    def abort(self, request_id: str, index: int | None = None) -> None:
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._turns.remove(request)

    def has_work(self) -> bool:
        return bool(self._requests) or self._long is not None

    def step(self) -> list[RowOutput]:
        """What the runner raises goes through: the device is broken, or the step did not fit into its memory."""
        began_at = self._clock()
        if self._long is None:
            rows: Sequence[Row] = self._turns.take(self._pace.step_tokens())
            num_tokens = sum(row.text.num_tokens for row in rows)
            if self._pace.expected_s(num_tokens) <= LONG_STEP_S:
                outputs = self._runner.execute(rows)
                self._note_step(rows, self._clock() - began_at)
                return outputs
            self._long, self._long_began_at = LongStep(self._runner.execute, rows), began_at
        ended = self._long.advance()
        if ended is None:
            return []
        rows, self._long = self._long.rows, None
        self._note_step(rows, self._clock() - self._long_began_at)
        return ended

    def rest(self) -> bool:
        return self._runner.rest()

    def stats(self) -> EngineStats:
        num_begun = sum(len(request.waiting) < len(request.texts) for request in self._requests.values())
        return EngineStats(
            num_running=num_begun,
            num_waiting=len(self._requests) - num_begun,
            num_free_blocks=0,
            num_blocks=0,
            num_prompt_tokens=self._num_prompt_tokens,
            step_s=self._step_s,
        )

    def sleep(self) -> int:
        assert not self.has_work(), "there are requests"
        return self._memory.sleep()

    def wake(self) -> dict[str, float]:
        return self._memory.wake()

    def _note_step(self, rows: Sequence[Row], step_s: float) -> None:
        self._pace.note_step(sum(row.text.num_tokens for row in rows), step_s)
        self._step_s += STEP_WEIGHT * (step_s - self._step_s) if self._step_s else step_s
        for row in rows:
            if not row.request.waiting:
                self._requests.pop(row.request.request_id, None)
