"""One task, from waiting for a replica to the last of its answer, whatever becomes of the workers on the way.

A worker that ends before anything of the answer came is replaced by another, once. A request that was in flight when
several workers crashed is refused (`poison.py`). Knows no wire format and counts nothing but crashes.
"""

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from appliance.domain import Deployment
from appliance.errors import Code, HearthError
from appliance.live_config import LiveConfig
from appliance.orchestrator.router import NotWanted
from appliance.orchestrator.worker_client import WORKER_LOST, WORKER_STOPPED
from appliance.services.deadlines import until_deadline
from appliance.services.poison import Poison, digest_of
from runtime.protocol import AnyFollowUp, AnyPiece, AnyTask, Delta, OtherTask, Submit

logger = logging.getLogger(__name__)

TRIAL_RETRY_AFTER_S = 5.0

TaskT = TypeVar("TaskT", bound=AnyTask)
ItemT = TypeVar("ItemT")


class Client(Protocol):
    """A ready replica. Closing the iterator aborts the request in the worker."""

    @property
    def pid(self) -> int: ...

    def generate(self, submit: Submit) -> AsyncGenerator[list[Delta], None]: ...

    def carry_out(
        self, task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None = None
    ) -> AsyncGenerator[list[AnyPiece], None]: ...


class Router(Protocol):
    def lease(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float, adapter: str = ""
    ) -> AbstractAsyncContextManager[Client]: ...

    def forecast(self, deployment: Deployment, wait_s: float) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt(ABC, Generic[TaskT, ItemT]):
    """What is asked, of whom, and how long it may wait for a replica."""

    deployment: Deployment
    task: TaskT
    affinity_key: str | None
    wait_s: float
    has_deadline: bool = True
    """False: it lasts as long as its client likes."""
    is_repeatable: bool = True
    """Whether a second worker could be asked the same."""

    @abstractmethod
    def send(self, client: Client, sent_at: float) -> AsyncGenerator[list[ItemT], None]: ...


class Generating(Attempt[Submit, Delta]):
    def send(self, client: Client, sent_at: float) -> AsyncGenerator[list[Delta], None]:
        return client.generate(replace(self.task, sent_at=sent_at))


@dataclass(frozen=True, kw_only=True, slots=True)
class CarryingOut(Attempt[OtherTask, AnyPiece]):
    follow_ups: Callable[[], AsyncIterator[AnyFollowUp]] | None = None
    """The task's later parts, from the beginning each time."""

    def send(self, client: Client, sent_at: float) -> AsyncGenerator[list[AnyPiece], None]:
        follow_ups = None if self.follow_ups is None else self.follow_ups()
        return client.carry_out(replace(self.task, sent_at=sent_at), follow_ups)


class Attempts:
    def __init__(self, live: LiveConfig, router: Router, wake: Callable[[Deployment], Awaitable[None]]) -> None:
        self._live = live
        self._settings = live.current.fleet
        self._router = router
        self._wake = wake
        self._poison = Poison(self._settings)
        self._trials: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By deployment name; there is one only while a suspect has it or waits for it."""

    async def run(self, attempt: Attempt[TaskT, ItemT]) -> AsyncGenerator[list[ItemT], None]:
        """Its answer to the end. Its time begins when a replica takes it."""
        num_retries = 0
        while True:
            has_begun = False
            try:
                async with aclosing(self._try(attempt)) as outputs:
                    async for deltas in outputs:
                        has_begun = True
                        yield deltas
                return
            except HearthError as error:
                is_lost = error.reason in (WORKER_LOST, WORKER_STOPPED)
                if not is_lost or has_begun or not attempt.is_repeatable or num_retries >= self._settings.retries_max:
                    raise
            num_retries += 1
            logger.info("request %s is tried again on another worker", attempt.task.request_id)

    async def _try(self, attempt: Attempt[TaskT, ItemT]) -> AsyncGenerator[list[ItemT], None]:
        digest = None if self._poison.is_empty else digest_of(attempt.deployment.name, attempt.task)
        async with AsyncExitStack() as alone:
            if digest is not None and self._num_crashes(digest):
                await alone.enter_async_context(self._alone_among_suspects(attempt, digest))
            async with self._lease(attempt) as client:
                deadline_s = self._live.current.limits.request_deadline_s if attempt.has_deadline else math.inf
                try:
                    answer = attempt.send(client, time.monotonic())
                    async with aclosing(until_deadline(answer, deadline_s)) as outputs:
                        async for deltas in outputs:
                            await alone.aclose()
                            yield deltas
                except HearthError as error:
                    if error.reason == WORKER_LOST:
                        self._note_crash(attempt, client.pid)
                    raise
        if digest is not None:
            self._poison.note_answer(digest)

    # ---- a place

    @asynccontextmanager
    async def _lease(self, attempt: Attempt[Any, Any]) -> AsyncIterator[Client]:
        """A place on a replica. One that is evicted or scaled to zero while this request waits is woken again."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + attempt.wait_s
        wait_s = attempt.wait_s
        async with AsyncExitStack() as leased:
            while True:
                lease = self._router.lease(attempt.deployment, attempt.affinity_key, wait_s, attempt.task.adapter)
                try:
                    client = await leased.enter_async_context(lease)
                    break
                except NotWanted:
                    await self._wake(attempt.deployment)
                    wait_s = max(0.0, deadline - loop.time())
            yield client

    # ---- poison

    def _num_crashes(self, digest: bytes) -> int:
        """Raises when they are too many."""
        now = time.monotonic()
        if self._poison.is_refused(digest, now):
            raise _refusal(self._poison.num_crashes(digest, now))
        return self._poison.num_crashes(digest, now)

    def _note_crash(self, attempt: Attempt[Any, Any], pid: int) -> None:
        """Raises when it was one too many."""
        digest = digest_of(attempt.deployment.name, attempt.task)
        num_crashes = self._poison.note_crash(digest, pid, time.monotonic())
        if num_crashes >= self._settings.poison_crashes:
            request_id, name = attempt.task.request_id, attempt.deployment.name
            logger.error("request %s to %s is refused: %d workers crashed over it", request_id, name, num_crashes)
            raise _refusal(num_crashes)

    @asynccontextmanager
    async def _alone_among_suspects(self, attempt: Attempt[Any, Any], digest: bytes) -> AsyncIterator[None]:
        """Requests that have seen a crash are tried one after the other, each until its first output.

        So that of all that were in flight at the first crash only the guilty one is there at the next.
        """
        trial = self._trials.setdefault(attempt.deployment.name, asyncio.Lock())
        try:
            async with asyncio.timeout(attempt.wait_s):
                await trial.acquire()
        except TimeoutError:
            message = "a worker that served this request ended, and others that it served are tried first"
            raise HearthError(Code.UNAVAILABLE, message, retry_after_s=TRIAL_RETRY_AFTER_S) from None
        try:
            self._num_crashes(digest)  # the same content may have crashed another worker meanwhile
            yield
        finally:
            trial.release()


def _refusal(num_crashes: int) -> HearthError:
    message = f"this request was being answered when {num_crashes} workers crashed; it is refused for a while"
    return HearthError(Code.INVALID, message, reason="POISON")
