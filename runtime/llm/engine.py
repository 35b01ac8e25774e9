"""The LLM engine's loop body: schedule, run, take the sampled tokens, finish.

Owns every request from `add` to its last token or `abort`. What a step computes is the runner's affair; the engine
sees token ids only, and never imports torch.
"""

import logging
import secrets
from typing import Protocol

from runtime.engine import Engine, EngineStats, RequestRefused
from runtime.llm.block_pool import BlockPool
from runtime.llm.prefix_cache import PrefixCache
from runtime.llm.request import Batch, Generation, Request, RequestFailed, RequestStatus, SampledToken, TokenOutput
from runtime.llm.scheduler import Scheduler
from runtime.protocol import FailureCode

logger = logging.getLogger(__name__)

LlmOutput = TokenOutput | RequestFailed


class Runner(Protocol):
    """Computes one batch on the device; `model_runner.py` in earnest."""

    def execute(self, batch: Batch) -> list[SampledToken]:
        """Write the KV of every scheduled token; one sampled token per row that wants it, in the batch's order."""


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
        max_batch_tokens: int,
        enable_prefix_cache: bool,
        cache_root: bytes,
    ) -> None:
        self._runner = runner
        self._max_num_waiting = max_num_waiting
        self._choices: dict[str, list[Request]] = {}
        """Unfinished ones, by request id."""
        self._pool = BlockPool(num_blocks)
        self._prefix_cache = (
            PrefixCache(self._pool, block_size, secret=secrets.token_bytes(32), root=cache_root)
            if enable_prefix_cache
            else None
        )
        self._scheduler = Scheduler(
            self._pool,
            self._prefix_cache,
            block_size=block_size,
            max_num_requests=max_num_requests,
            max_batch_tokens=max_batch_tokens,
        )

    def add(self, request: Generation) -> None:
        request_id, choices = request
        if not self._scheduler.can_ever_fit(choices[0]):
            num_tokens = len(choices[0].prompt_token_ids) + choices[0].max_tokens
            raise RequestRefused(FailureCode.INVALID, f"{num_tokens} tokens do not fit into this replica's KV cache")
        if self._scheduler.num_waiting + len(choices) > self._max_num_waiting:
            raise RequestRefused(FailureCode.OVERLOADED, "too many requests are waiting for this model")
        try:
            self._scheduler.add(choices)
        except Exception as error:
            logger.exception("queueing request %s failed", request_id)
            raise RequestRefused(FailureCode.INTERNAL, "the request could not be queued") from error
        self._choices[request_id] = choices.copy()

    def abort(self, request_id: str, index: int | None = None) -> None:
        for choice in self._choices.get(request_id, []).copy():
            if index is None or choice.index == index:
                self._finish(choice)

    def has_work(self) -> bool:
        return bool(self._choices)

    def step(self) -> list[LlmOutput]:
        """What the runner raises goes through: the device is broken, or the step did not fit into its memory.

        Requests advance only after the runner returned, so a caller that knows a remedy may simply step again.
        """
        batch = self._scheduler.schedule()
        sampled = iter(self._runner.execute(batch))
        outputs: list[LlmOutput] = []
        for request, num_tokens, is_sampled in batch.scheduled:
            token = next(sampled) if is_sampled else None
            if request.status is RequestStatus.FINISHED:
                continue  # a sibling has failed in this very loop
            try:
                self._advance(request, num_tokens)
                if token is not None:
                    outputs.append(self._append(request, token))
            except Exception:
                logger.exception("request %s failed", request.request_id)
                self.abort(request.request_id)
                outputs.append(RequestFailed(request.request_id))
        return outputs

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self._scheduler.running),
            num_waiting=self._scheduler.num_waiting,
            num_free_blocks=self._pool.num_free,
            num_blocks=self._pool.num_usable,
        )

    def check_integrity(self) -> None:
        """Raise AssertionError unless all bookkeeping agrees; for tests, after every step."""
        self._scheduler.check_integrity()
        unfinished = sum(map(len, self._choices.values()))
        assert unfinished == len(self._scheduler.running) + self._scheduler.num_waiting

    def _advance(self, request: Request, num_tokens: int) -> None:
        request.num_computed_tokens += num_tokens
        if self._prefix_cache is not None:
            self._prefix_cache.publish(request)

    def _append(self, request: Request, token: SampledToken) -> TokenOutput:
        request.output_token_ids.append(token.token_id)
        if len(request.output_token_ids) == 1:
            self._scheduler.release_followers(request.request_id)
        if token.token_id in request.stop_token_ids:
            request.finish_reason = "stop"
        elif len(request.output_token_ids) >= request.max_tokens:
            request.finish_reason = "length"
        if request.finish_reason is not None:
            self._finish(request)
        return TokenOutput(
            request_id=request.request_id,
            index=request.index,
            token_id=token.token_id,
            logprob=token.logprob,
            top=token.top,
            finish_reason=request.finish_reason,
            num_prompt_tokens=len(request.prompt_token_ids),
            num_cached_tokens=request.num_cached_tokens,
        )

    def _finish(self, request: Request) -> None:
        self._scheduler.finish(request)
        siblings = self._choices[request.request_id]
        siblings.remove(request)
        if not siblings:
            del self._choices[request.request_id]
