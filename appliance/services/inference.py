"""From a model's name to tokens: resolve, wake, lease a replica, submit, meter. One path for every generation route.

Knows no wire format. Closing the iterator of an answer ends the work everywhere below; nothing outlives it but the
load of a deployment that was woken.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import NamedTuple, Protocol

import msgspec

from appliance.config import Config
from appliance.domain import Deployment, Principal
from appliance.errors import Code, HearthError
from appliance.services.deadlines import until_deadline
from appliance.services.deployments import Deployments
from appliance.services.generation import Generation, to_submits
from appliance.services.metrics import Metrics
from runtime.protocol import Delta, Submit


class Client(Protocol):
    """A ready replica. Closing the iterator aborts the request in the worker."""

    def generate(self, submit: Submit) -> AsyncGenerator[list[Delta], None]: ...


class Router(Protocol):
    def lease(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float
    ) -> AbstractAsyncContextManager[Client]: ...


class Answer(NamedTuple):
    """A request that has been understood and is about to run."""

    deployment: Deployment
    submit: Submit
    """What its worker is asked; a request with several prompts asks the same for each."""
    outputs: AsyncGenerator[list[Delta], None]
    """Deltas of all choices of all prompts until the last has finished; what fails raises before or between."""


class Inference:
    def __init__(self, config: Config, deployments: Deployments, router: Router, metrics: Metrics) -> None:
        self._limits = config.limits
        self._cold_start_wait_s = config.fleet.cold_start_wait_s
        self._deployments = deployments
        self._router = router
        self._metrics = metrics
        self._num_in_flight = 0

    async def begin(self, principal: Principal, generation: Generation) -> Answer:
        """Find out who answers, and how. What is wrong with the request raises here, everything else in `outputs`."""
        arrived = time.monotonic()
        target = await self._deployments.resolve(principal, generation.model)
        submits = to_submits(principal, generation, target.model, self._limits)
        return Answer(target.deployment, submits[0], self._generate(target.deployment, generation, submits, arrived))

    async def _generate(
        self, deployment: Deployment, generation: Generation, submits: list[Submit], arrived: float
    ) -> AsyncGenerator[list[Delta], None]:
        with self._admitted():
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
        """One prompt on one replica, its choices renumbered. Its time begins when a replica takes it."""
        wait_s = self._cold_start_wait_s if generation.cold_start_wait_s is None else generation.cold_start_wait_s
        first_index = prompt_index * generation.num_choices
        async with (
            self._router.lease(deployment, generation.affinity_key, wait_s) as client,
            aclosing(until_deadline(client.generate(_sent_now(submit)), self._limits.request_deadline_s)) as outputs,
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


def _shift(delta: Delta, first_index: int) -> Delta:
    return msgspec.structs.replace(delta, index=delta.index + first_index)


def _sent_now(submit: Submit) -> Submit:
    return msgspec.structs.replace(submit, sent_at=time.monotonic())
