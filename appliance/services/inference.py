"""From a model's name to tokens: resolve, wake, lease a replica, submit, meter. One path for every generation route.

Knows no wire format. Closing the iterator of an answer ends the work everywhere below; nothing outlives it but the
load of a deployment that was woken.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from functools import partial
from typing import NamedTuple

import msgspec

from appliance.domain import Deployment, Principal
from appliance.errors import Code, HearthError
from appliance.live_config import LiveConfig
from appliance.services.admission import Admission, Headroom
from appliance.services.attempts import Attempts, CarryingOut, Generating, Router
from appliance.services.calls import Call
from appliance.services.demands import demand_of
from appliance.services.deployments import Deployments, Target
from appliance.services.generation import Generation, to_submits
from appliance.services.loads import Loads
from appliance.services.metrics import Metrics
from appliance.services.tally import DeltaTally, PieceTally
from runtime.protocol import AnyPiece, Delta, OtherTask, Submit


class Answer(NamedTuple):
    """A request that has been understood and is about to run."""

    deployment: Deployment
    submit: Submit
    """What its worker is asked; a request with several prompts asks the same for each."""
    outputs: AsyncGenerator[list[Delta], None]
    """Deltas of all choices of all prompts until the last has finished; what fails raises before or between."""
    forecast: Callable[[], str]
    """While it waits for a replica that is likely to be ready in time: how far that is, for people. Else empty."""
    headroom: Sequence[Headroom] = ()
    """What its rate limits leave, where there are any."""


class TaskAnswer(NamedTuple):
    """Likewise of a call that is no generation."""

    target: Target
    pieces: AsyncGenerator[list[AnyPiece], None]
    """Until the last; what fails raises before or between."""
    headroom: Sequence[Headroom] = ()


class Inference:
    def __init__(
        self,
        live: LiveConfig,
        deployments: Deployments,
        admission: Admission,
        router: Router,
        metrics: Metrics,
        loads: Loads,
    ) -> None:
        self._live = live
        self._cold_start_wait_s = live.current.fleet.cold_start_wait_s
        self._deployments = deployments
        self._admission = admission
        self._router = router
        self._attempts = Attempts(live, router, deployments.wake)
        self._metrics = metrics
        self._loads = loads
        self._num_in_flight = 0

    async def begin(self, principal: Principal, generation: Generation) -> Answer:
        """Find out who answers, and how. What is wrong with the request raises here, everything else in `outputs`."""
        arrived = time.monotonic()
        target = await self._deployments.resolve(principal, generation.model)
        submits = to_submits(principal, generation, target.model, self._live.current.limits, target.adapter)
        outputs = self._generate(principal, target, generation, submits, arrived)
        forecast = partial(self._forecast, target.deployment, arrived + self._wait_s(generation.cold_start_wait_s))
        return Answer(target.deployment, submits[0], outputs, forecast, self._admission.headroom(principal, target))

    async def perform(self, principal: Principal, call: Call) -> TaskAnswer:
        """Like `begin`, for everything that is no generation."""
        target = await self._deployments.resolve(principal, call.model)
        headroom = self._admission.headroom(principal, target)
        return TaskAnswer(target, self._perform(principal, target, call, call.make_task(target)), headroom)

    async def _perform(
        self, principal: Principal, target: Target, call: Call, task: OtherTask
    ) -> AsyncGenerator[list[AnyPiece], None]:
        deployment = target.deployment
        attempt = CarryingOut(
            deployment=deployment,
            task=msgspec.structs.replace(
                task, request_id=call.request_id, adapter=target.adapter, tenant=principal.account_id
            ),
            affinity_key=call.affinity_key,
            wait_s=self._wait_s(call.cold_start_wait_s),
            has_deadline=call.has_deadline,
            is_repeatable=call.is_repeatable,
            follow_ups=call.follow_ups,
        )
        async with AsyncExitStack() as under_way:
            under_way.enter_context(self._in_flight())
            meter = await under_way.enter_async_context(
                self._admission.admitted(principal, target, call.request_id, call.demand, PieceTally())
            )
            load = under_way.enter_context(self._loads.request(deployment.name))
            if deployment.desired_replica_count == 0:
                await self._deployments.wake(deployment)
            under_way.enter_context(self._outcome_counted(deployment))
            pieces = await under_way.enter_async_context(aclosing(self._attempts.run(attempt)))
            async for some in pieces:
                load.count_pieces(some)
                for piece in some:
                    self._metrics.count_used(deployment.name, piece.used)
                await meter.add(some)
                yield some

    async def _generate(
        self, principal: Principal, target: Target, generation: Generation, submits: list[Submit], arrived: float
    ) -> AsyncGenerator[list[Delta], None]:
        deployment = target.deployment
        async with AsyncExitStack() as under_way:
            under_way.enter_context(self._in_flight())
            demand, tally = demand_of(generation, submits, target), DeltaTally(len(submits), generation.num_choices)
            meter = await under_way.enter_async_context(
                self._admission.admitted(principal, target, generation.request_id, demand, tally)
            )
            load = under_way.enter_context(self._loads.request(deployment.name))
            if deployment.desired_replica_count == 0:
                await self._deployments.wake(deployment)
            streams = [self._run(deployment, generation, submit, index) for index, submit in enumerate(submits)]
            is_first = True
            with self._outcome_counted(deployment):
                async with aclosing(streams[0] if len(streams) == 1 else interleave(streams)) as outputs:
                    async for deltas in outputs:
                        load.count(deltas)
                        if is_first:
                            is_first = False
                            self._metrics.count_first_token(deployment.name, time.monotonic() - arrived)
                        await meter.add(deltas)
                        yield deltas

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        if self._num_in_flight >= self._live.current.limits.requests_in_flight_max:
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
        """One prompt, its choices renumbered."""
        first_index = prompt_index * generation.num_choices
        attempt = Generating(
            deployment=deployment,
            task=submit,
            affinity_key=generation.affinity_key,
            wait_s=self._wait_s(generation.cold_start_wait_s),
        )
        async with aclosing(self._attempts.run(attempt)) as outputs:
            async for deltas in outputs:
                for delta in deltas:
                    if delta.usage is not None:
                        self._metrics.count_tokens(deployment.name, delta.usage)
                yield [_shift(delta, first_index) for delta in deltas] if first_index else deltas

    def _wait_s(self, asked_s: float | None) -> float:
        """How long a request may wait for a replica."""
        return self._cold_start_wait_s if asked_s is None else asked_s

    def _forecast(self, deployment: Deployment, until: float) -> str:
        return self._router.forecast(deployment, until - time.monotonic())


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
