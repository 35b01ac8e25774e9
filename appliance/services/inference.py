"""From a model's name to tokens: resolve, wake, lease a replica, submit, meter. One path for every generation route.

Knows no wire format. Closing the iterator of `generate` ends the work everywhere below; nothing outlives it but the
load of a deployment that was woken.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Protocol

import msgspec

from appliance.config import Config
from appliance.domain import Deployment, Model, Principal
from appliance.errors import Code, HearthError
from appliance.services.deployments import Deployments
from appliance.services.metrics import Metrics
from runtime.protocol import ChatPrompt, Delta, SamplingParams, Submit, TextPrompt, TokenPrompt

Prompt = ChatPrompt | TextPrompt | TokenPrompt


class Client(Protocol):
    """A ready replica. Closing the iterator aborts the request in the worker."""

    def generate(self, submit: Submit) -> AsyncGenerator[list[Delta], None]: ...


class Router(Protocol):
    def lease(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float
    ) -> AbstractAsyncContextManager[Client]: ...


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One client call, whichever route it came by. None is "not said": the model's or the appliance's default."""

    request_id: str
    """Made by the server."""
    model: str
    """As the client names it: a model, a deployment, a deployed model or a model on a deployment."""
    prompts: Sequence[Prompt]
    num_choices: int = 1
    """Per prompt; the choices of prompt p have indexes p * num_choices and following."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: list[str] = []
    num_logprobs: int | None = None
    affinity_key: str | None = None
    """Requests with the same one prefer the same replica; no more than a hint."""
    isolation_key: str | None = None
    """A prefix cache of its own within the account."""
    cold_start_wait_s: float | None = None


class Inference:
    def __init__(self, config: Config, deployments: Deployments, router: Router, metrics: Metrics) -> None:
        self._limits = config.limits
        self._cold_start_wait_s = config.fleet.cold_start_wait_s
        self._deployments = deployments
        self._router = router
        self._metrics = metrics
        self._num_in_flight = 0

    async def generate(self, principal: Principal, generation: Generation) -> AsyncGenerator[list[Delta], None]:
        """Deltas of all choices of all prompts until the last has finished; what fails raises before or between."""
        with self._admitted():
            arrived = time.monotonic()
            target = await self._deployments.resolve(principal, generation.model)
            deployment = target.deployment
            submits = _submits(principal, generation, target.model, self._limits.default_max_tokens)
            if deployment.desired_replica_count == 0:
                await self._deployments.wake(deployment)
            streams = [self._run(deployment, generation, submit, index) for index, submit in enumerate(submits)]
            is_first = True
            with self._outcome_counted(deployment):
                async with aclosing(streams[0] if len(streams) == 1 else interleave(streams)) as outputs:
                    async for deltas in outputs:
                        if is_first:
                            is_first = False
                            self._metrics.count_first_token(deployment.name, time.monotonic() - arrived)
                        yield deltas

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._num_in_flight >= self._limits.requests_in_flight_max:
            raise HearthError(Code.OVERLOADED, "too many requests are in flight", retry_after_s=1.0)
        self._num_in_flight += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._num_in_flight -= 1
            self._metrics.in_flight.dec()

    @contextmanager
    def _outcome_counted(self, deployment: Deployment) -> Iterator[None]:
        outcome = "failed"
        try:
            yield
            outcome = "completed"
        except HearthError as error:
            outcome = error.code
            raise
        except (GeneratorExit, asyncio.CancelledError):
            outcome = "aborted"
            raise
        finally:
            self._metrics.count_generation(deployment.name, outcome)

    async def _run(
        self, deployment: Deployment, generation: Generation, submit: Submit, prompt_index: int
    ) -> AsyncGenerator[list[Delta], None]:
        """One prompt on one replica, its choices renumbered."""
        wait_s = self._cold_start_wait_s if generation.cold_start_wait_s is None else generation.cold_start_wait_s
        first_index = prompt_index * generation.num_choices
        async with (
            self._router.lease(deployment, generation.affinity_key, wait_s) as client,
            aclosing(client.generate(submit)) as outputs,
        ):
            async for deltas in outputs:
                for delta in deltas:
                    if delta.usage is not None:
                        self._metrics.count_tokens(deployment.name, delta.usage)
                yield [_shift(delta, first_index) for delta in deltas] if first_index else deltas


async def interleave(streams: list[AsyncGenerator[list[Delta], None]]) -> AsyncGenerator[list[Delta], None]:
    """Whatever comes first; the first failure ends all."""
    waiting = {asyncio.ensure_future(anext(stream, None)): stream for stream in streams}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream = waiting.pop(task)
                deltas = task.result()
                if deltas is not None:
                    waiting[asyncio.ensure_future(anext(stream, None))] = stream
                    yield deltas
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def cache_namespace(account_id: str, isolation_key: str | None) -> str:
    """Accounts never share prefixes. Hashed, so that no client text reaches the worker's cache."""
    parts = msgspec.json.encode([account_id, isolation_key])
    return hashlib.sha256(parts).hexdigest()


def _submits(principal: Principal, generation: Generation, model: Model, default_max_tokens: int) -> list[Submit]:
    """One for each prompt."""
    for prompt in generation.prompts:
        if isinstance(prompt, TokenPrompt):
            _check_token_ids(prompt.token_ids, model)
    return [
        Submit(
            request_id=f"{generation.request_id}-{index}",
            prompt=prompt,
            sampling=_sampling(generation, model),
            num_choices=generation.num_choices,
            max_tokens=default_max_tokens if generation.max_tokens is None else generation.max_tokens,
            stop=generation.stop,
            num_logprobs=generation.num_logprobs,
            cache_namespace=cache_namespace(principal.account_id, generation.isolation_key),
        )
        for index, prompt in enumerate(generation.prompts)
    ]


def _sampling(generation: Generation, model: Model) -> SamplingParams:
    """What the request says, else the model's own default, else neutral."""
    defaults = {} if model.info is None else model.info.default_sampling
    neutral = SamplingParams()

    def choose(said: float | None, name: str, otherwise: float) -> float:
        return defaults.get(name, otherwise) if said is None else said

    return SamplingParams(
        temperature=choose(generation.temperature, "temperature", neutral.temperature),
        top_p=choose(generation.top_p, "top_p", neutral.top_p),
        top_k=int(choose(generation.top_k, "top_k", neutral.top_k)),
        min_p=choose(generation.min_p, "min_p", neutral.min_p),
        seed=generation.seed,
    )


def _check_token_ids(token_ids: list[int], model: Model) -> None:
    if model.info is not None and token_ids and max(token_ids) >= model.info.vocab_size:
        raise HearthError(
            Code.INVALID, f"prompt: token id {max(token_ids)} is outside of the model's vocabulary", "prompt"
        )


def _shift(delta: Delta, first_index: int) -> Delta:
    return msgspec.structs.replace(delta, index=delta.index + first_index)
