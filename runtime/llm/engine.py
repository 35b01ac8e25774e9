"""The LLM engine's loop body: schedule, launch, take the sampled tokens, finish.

Owns every request from `add` to its last token or `abort`. With look-ahead a step is launched before the tokens of the
one before it are known here, so that the device never waits for the host; requests advance when a step is retired. What
a step computes is the runner's affair; the engine sees token ids only, and never imports torch.
"""

import logging
import secrets
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from runtime.engine import Engine, EngineStats, Memory, RequestRefused
from runtime.llm.admission import Admission
from runtime.llm.backlog import Backlog, BacklogLimits
from runtime.llm.block_pool import BlockPool
from runtime.llm.look_ahead import can_be_followed, is_sampled_late
from runtime.llm.prefix_cache import PrefixCache
from runtime.llm.request import (
    Batch,
    Generation,
    Request,
    RequestFailed,
    RequestStatus,
    RowResult,
    SampledToken,
    ScheduledRequest,
    TokenOutput,
)
from runtime.llm.scheduler import Scheduler
from runtime.llm.speculation.speculator import DraftModel, Speculator
from runtime.llm.timeline import Phase
from runtime.message import FailureCode
from runtime.protocol import Performance
from runtime.settings import Speculation

logger = logging.getLogger(__name__)

LlmOutput = TokenOutput | RequestFailed

NO_SPECULATION = Speculation()
"""But by the predictions that clients give."""


class LaunchedStep(Protocol):
    """A batch that the device computes; `sample`, then `results`, each once."""

    def sample(self) -> None:
        """Have the tokens chosen, behind the forward; of requests that have finished by now none."""

    def results(self) -> list[RowResult]:
        """Wait for the step; a result for each row, in the batch's order."""


class Runner(Protocol):
    """Computes batches on the device; `model_runner.py` in earnest."""

    def launch(self, batch: Batch) -> LaunchedStep:
        """Have the KV of every scheduled token written. Rows that await a token get it from the last step sampled."""


class _Pending(NamedTuple):
    """A step between its launch and its retirement."""

    batch: Batch
    step: LaunchedStep
    launched_at: float


STEP_WEIGHT = 0.1
"""Of the newest step in the average of their times."""


class LlmEngine(Engine[Generation, LlmOutput]):
    """`num_blocks` counts the trash block; `cache_root` names the model's revision and dtype."""

    def __init__(
        self,
        runner: Runner,
        *,
        num_blocks: int,
        block_size: int,
        max_num_requests: int,
        max_num_waiting: int,
        max_num_waiting_tokens: int,
        max_batch_tokens: int,
        enable_prefix_cache: bool,
        cache_root: bytes,
        speculation: Speculation = NO_SPECULATION,
        draft_model: DraftModel | None = None,
        memory: Memory | None = None,
        look_ahead: bool = False,
        rest: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._runner = runner
        self._memory = memory
        """None: the runner holds none."""
        self._rest = rest
        self._clock = clock
        self._num_prompt_tokens = self._num_cached_tokens = self._num_generated_tokens = 0
        self._step_s = 0.0
        self._looks_ahead = look_ahead
        self._pending: _Pending | None = None
        """The last step, unless it is retired."""
        self._retired_at = 0.0
        self._outputs: list[LlmOutput] = []
        """Of retired steps, not handed over yet: what the device raises must not lose them."""
        self._choices: dict[str, list[Request]] = {}
        """Unfinished ones, by request id."""
        self._begun: set[str] = set()
        """Of those, whose prompt was counted: once for all choices."""
        self._pool = BlockPool(num_blocks)
        self._prefix_cache = PrefixCache(
            self._pool,
            block_size,
            secret=secrets.token_bytes(32),
            root=cache_root,
            spans_calls=enable_prefix_cache,
        )
        backlog = Backlog(BacklogLimits(max_num_waiting, max_num_waiting_tokens))
        self._admission = Admission(backlog)
        self._scheduler = Scheduler(
            self._pool,
            self._prefix_cache,
            backlog,
            block_size=block_size,
            max_num_requests=max_num_requests,
            max_batch_tokens=max_batch_tokens,
        )
        self._speculator = Speculator(
            speculation, draft_model, max_num_requests=max_num_requests, max_batch_tokens=max_batch_tokens
        )

    def add(self, request: Generation) -> None:
        request_id, choices = request
        if not self._scheduler.can_ever_fit(choices[0]):
            num_tokens = len(choices[0].prompt_token_ids) + choices[0].max_tokens
            raise RequestRefused(FailureCode.INVALID, f"{num_tokens} tokens do not fit into this replica's KV cache")
        self._admission.check(choices)
        try:
            for choice in choices:
                choice.timeline.begin(self._clock())
                self._speculator.add(choice)
            self._scheduler.add(choices)
        except Exception as error:
            for choice in choices:
                self._speculator.remove(choice)
            logger.exception("queueing request %s failed", request_id)
            raise RequestRefused(FailureCode.INTERNAL, "the request could not be queued") from error
        self._choices[request_id] = choices.copy()

    def abort(self, request_id: str, index: int | None = None) -> None:
        self._drop(request_id, index)
        if not self._choices:
            self._retire_last()

    def has_work(self) -> bool:
        return bool(self._choices) or bool(self._outputs)

    def step(self) -> list[LlmOutput]:
        """What the runner raises goes through: the device is broken, or the step did not fit into its memory.

        Requests advance only when a step is retired, so a caller that knows a remedy may simply step again. With
        look-ahead the outputs are those of the step before the one that is launched.
        """
        self._pool.now = self._clock()
        batch = self._schedule_behind()
        if batch is None:
            self._retire_last()
            batch = self._schedule() if self._choices else None
        if batch is not None:
            self._launch(batch)
            if not self._may_be_followed(batch):
                self._retire_last()
        outputs, self._outputs = self._outputs, []
        return outputs

    def rest(self) -> bool:
        return self._rest()

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self._scheduler.running),
            num_waiting=self._scheduler.backlog.total.num_requests,
            num_free_blocks=self._pool.num_free,
            num_blocks=self._pool.num_usable,
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_generated_tokens=self._num_generated_tokens,
            step_s=self._step_s,
            cache_kept_s=self._pool.kept_s,
        )

    def sleep(self) -> int:
        assert not self._choices, "there are requests"
        self._prefix_cache.clear()
        return self._memory.sleep() if self._memory is not None else 0

    def wake(self) -> dict[str, float]:
        return self._memory.wake() if self._memory is not None else {}

    def check_integrity(self) -> None:
        """Raise AssertionError unless all bookkeeping agrees; for tests, after every step."""
        self._scheduler.check_integrity()
        unfinished = sum(map(len, self._choices.values()))
        assert unfinished == len(self._scheduler.running) + self._scheduler.backlog.total.num_requests

    def _may_be_followed(self, batch: Batch) -> bool:
        """Whether the batch that was launched may stay on its way until the next is launched."""
        is_wanted = self._looks_ahead and bool(self._choices)
        return is_wanted and can_be_followed(batch) and not self._speculator.may_draft(batch)

    def _schedule_behind(self) -> Batch | None:
        """What the device can go on with while the last step is on its way; None: that one must be retired first."""
        if self._pending is None:
            return None
        batch = self._scheduler.schedule_behind(self._pending.batch)
        if batch is None or self._speculator.may_draft(batch):
            return None
        self._note_started(batch)
        return batch

    def _schedule(self) -> Batch:
        batch = self._scheduler.schedule()
        self._note_started(batch)
        return self._speculator.draft(batch, self._scheduler.reserve_draft)

    def _note_started(self, batch: Batch) -> None:
        now = self._clock()
        for request in self._scheduler.preempted:
            request.timeline.pause(now)
        for row in batch.scheduled:
            if row.request.timeline.is_waiting:
                self._start(row.request, now)

    def _launch(self, batch: Batch) -> None:
        """Send a step off, and only then retire the one before it."""
        before, launched_at = self._pending, perf_counter()
        step = self._runner.launch(batch)
        is_late = is_sampled_late(batch)
        if not is_late:
            step.sample()
        self._pending = _Pending(batch, step, launched_at)
        try:
            if before is not None:
                self._retire(before)
            if is_late:
                step.sample()
        except BaseException:
            self._pending = None
            self._scheduler.settle()
            raise

    def _retire_last(self) -> None:
        if self._pending is not None:
            last, self._pending = self._pending, None
            self._retire(last)

    def _retire(self, pending: _Pending) -> None:
        """Let requests have what the step brought them; what was computed for those that have left is dropped."""
        try:
            results = pending.step.results()
        finally:
            self._scheduler.settle()
        self._note_duration(pending)
        now = self._clock()
        for scheduled, result in zip(pending.batch.scheduled, results, strict=True):
            request = scheduled.request
            if request.status is RequestStatus.FINISHED or not result.is_computed:
                continue
            try:
                if result.failure is not None:
                    raise result.failure
                self._outputs += self._advance(scheduled, result, now)
            except Exception:
                logger.exception("request %s failed", request.request_id)
                self._drop(request.request_id)
                self._outputs.append(RequestFailed(request.request_id))

    def _note_duration(self, pending: _Pending) -> None:
        """From when the device was free for the step."""
        began_at, self._retired_at = max(pending.launched_at, self._retired_at), perf_counter()
        step_s = self._retired_at - began_at
        self._admission.note_step(pending.batch, step_s)
        self._step_s += STEP_WEIGHT * (step_s - self._step_s) if self._step_s else step_s

    def _start(self, request: Request, now: float) -> None:
        request.timeline.start(now)
        if request.request_id not in self._begun:
            self._begun.add(request.request_id)
            self._num_prompt_tokens += len(request.prompt_token_ids)
            self._num_cached_tokens += request.num_cached_tokens

    def _advance(self, scheduled: ScheduledRequest, result: RowResult, now: float) -> list[TokenOutput]:
        """Take what a step brought one request; drafted tokens behind one that ends it are dropped."""
        request = scheduled.request
        request.prompt_logprobs += result.prompt_logprobs
        num_taken = 0
        for token in result.tokens:
            self._append(request, token, now)
            num_taken += 1
            if request.finish_reason is not None:
                break
        request.num_computed_tokens += scheduled.num_tokens + max(0, num_taken - 1)
        self._prefix_cache.publish(request)
        if scheduled.draft_token_ids:
            self._speculator.note(scheduled, len(result.tokens) - 1)
            self._scheduler.trim(request)
        is_finished = request.finish_reason is not None
        is_told = is_finished or (request.is_watched and num_taken > 0)
        performance = self._performance(request, now) if is_told else None
        outputs = [_output(request, token, performance) for token in result.tokens[:num_taken]]
        if is_finished:
            last = outputs[-1]
            ends_sentence = request.finish_reason == "stop" and last.token_id not in request.stop_token_ids
            outputs[-1] = replace(last, finish_reason=request.finish_reason, ends_sentence=ends_sentence)
        if request.prompt_logprobs and outputs:
            outputs[0] = replace(outputs[0], prompt_logprobs=request.prompt_logprobs)
            request.prompt_logprobs, request.num_prompt_logprobs = [], 0
        if is_finished:
            self._finish(request)
        return outputs

    def _append(self, request: Request, token: SampledToken, now: float) -> None:
        request.output_token_ids.append(token.token_id)
        self._num_generated_tokens += 1
        request.mirostat_mu = token.mirostat_mu
        if request.constraint is not None:
            request.constraint.accept(token.token_id)
        if len(request.output_token_ids) == 1:
            request.timeline.note_first_token(now)
        self._scheduler.note_output(request)
        is_complete = request.constraint is not None and request.constraint.is_complete
        if is_complete or token.token_id in request.stop_token_ids:
            request.finish_reason = "stop"
        elif len(request.output_token_ids) >= request.max_tokens:
            request.finish_reason = "length"

    def _performance(self, request: Request, now: float) -> Performance:
        durations_s = request.timeline.durations_s(now)
        counts = self._speculator.counts(request)
        return Performance(
            tokenizer_queue_s=0.0,
            tokenizer_s=0.0,
            prefill_queue_s=durations_s[Phase.PREFILL_QUEUE],
            prefill_s=durations_s[Phase.PREFILL],
            generation_queue_s=durations_s[Phase.GENERATION_QUEUE],
            generation_s=durations_s[Phase.GENERATION],
            num_concurrent_requests=len(self._scheduler.running),
            num_predicted_tokens=len(request.prediction),
            num_predicted_accepted=counts.num_predicted_accepted,
            num_drafted_tokens=counts.num_drafted,
            num_accepted_tokens=counts.num_accepted,
        )

    def _is_on_its_way(self, request: Request) -> bool:
        return self._pending is not None and any(row.request is request for row in self._pending.batch.scheduled)

    def _drop(self, request_id: str, index: int | None = None) -> None:
        for choice in self._choices.get(request_id, []).copy():
            if index is None or choice.index == index:
                self._finish(choice)

    def _finish(self, request: Request) -> None:
        self._scheduler.finish(request, is_on_its_way=self._is_on_its_way(request))
        self._speculator.remove(request)
        siblings = self._choices[request.request_id]
        siblings.remove(request)
        if not siblings:
            del self._choices[request.request_id]
            self._begun.discard(request.request_id)


def _output(request: Request, token: SampledToken, performance: Performance | None) -> TokenOutput:
    return TokenOutput(
        request_id=request.request_id,
        index=request.index,
        token_id=token.token_id,
        logprob=token.logprob,
        top=token.top,
        finish_reason=None,
        num_prompt_tokens=len(request.prompt_token_ids),
        num_cached_tokens=request.num_cached_tokens,
        performance=performance,
    )
