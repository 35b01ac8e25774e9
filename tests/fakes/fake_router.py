"""Stands in for the router and its workers: scripts say what a task brings, and what happened is kept."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from appliance.domain import Deployment
from runtime.protocol import AnyFollowUp, AnyPiece, Delta, OtherTask, Submit, TokenLogprob, TopLogprob, Usage
from tests.fakes.low_level import with_low_level
from tests.fakes.scripted_tasks import answer_task

Script = Callable[[Submit], AsyncGenerator[list[Delta], None]]
TaskScript = Callable[[OtherTask, AsyncIterator[AnyFollowUp] | None], AsyncGenerator[list[AnyPiece], None]]

WORDS = ["Hel", "lo", " from", " the", " fake", "."]
ANSWER = "".join(WORDS)
NUM_PROMPT_TOKENS = 7
NUM_CACHED_TOKENS = 3


class Lease(NamedTuple):
    deployment: str
    affinity_key: str | None
    wait_s: float
    adapter: str = ""


async def answer_in_words(submit: Submit) -> AsyncGenerator[list[Delta], None]:
    """Each choice says ANSWER, one word a step, cut at max_tokens; the choices take turns within a step."""
    words = WORDS[: submit.max_tokens]
    for position, word in enumerate(words):
        is_last = position == len(words) - 1
        yield [word_delta(submit, index, position, word, is_last) for index in range(submit.num_choices)]
        await asyncio.sleep(0)


def word_delta(submit: Submit, index: int, position: int, word: str, is_last: bool) -> Delta:
    logprobs = None
    if submit.num_logprobs is not None:
        top = [TopLogprob(token_id=i, token=b"w%d" % i, logprob=-float(i)) for i in range(submit.num_logprobs)]
        logprobs = [TokenLogprob(token_id=position, token=word.encode(), logprob=-0.5, top=top)]
    reason: Literal["stop", "length"] = "stop" if position == len(WORDS) - 1 else "length"
    cached = NUM_CACHED_TOKENS if index == 0 else NUM_PROMPT_TOKENS
    delta = Delta(
        request_id=submit.request_id,
        index=index,
        text=word,
        token_ids=[position],
        logprobs=logprobs,
        finish_reason=reason if is_last else None,
        usage=Usage(num_prompt_tokens=NUM_PROMPT_TOKENS, num_cached_tokens=cached, num_completion_tokens=position + 1)
        if is_last
        else None,
        num_prompt_tokens=0 if position else NUM_PROMPT_TOKENS,
        num_cached_tokens=0 if position else cached,
    )
    return with_low_level(submit, delta, NUM_PROMPT_TOKENS, is_first=position == 0)


class FakeClient:
    """Each lease is of a worker of its own."""

    def __init__(self, router: "FakeRouter", pid: int) -> None:
        self.pid = pid
        self._router = router

    async def generate(self, submit: Submit) -> AsyncGenerator[list[Delta], None]:
        self._router.submits.append(submit)
        is_finished = False
        try:
            async for deltas in self._router.script(submit):
                yield deltas
            is_finished = True
        finally:
            if not is_finished:
                self._router.aborted.append(submit.request_id)

    async def carry_out(
        self, task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None = None
    ) -> AsyncGenerator[list[AnyPiece], None]:
        self._router.tasks.append(task)
        is_finished = False
        try:
            async for pieces in self._router.task_script(task, follow_ups):
                yield pieces
            is_finished = True
        finally:
            if not is_finished:
                self._router.aborted.append(task.request_id)


class FakeRouter:
    """`refusal` is raised instead of a lease; `forecasts` are what waiting callers are told, one after the other."""

    def __init__(self, script: Script = answer_in_words) -> None:
        self.script = script
        self.task_script: TaskScript = answer_task
        self.refusal: Exception | None = None
        self.forecasts: list[str] = []
        self.leases: list[Lease] = []
        self.submits: list[Submit] = []
        self.tasks: list[OtherTask] = []
        self.aborted: list[str] = []
        self.num_leased = 0

    @asynccontextmanager
    async def lease(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float, adapter: str = ""
    ) -> AsyncIterator[FakeClient]:
        self.leases.append(Lease(deployment.name, affinity_key, wait_s, adapter))
        if self.refusal is not None:
            raise self.refusal
        self.num_leased += 1
        try:
            yield FakeClient(self, pid=len(self.leases))
        finally:
            self.num_leased -= 1

    def forecast(self, deployment: Deployment, wait_s: float) -> str:
        return self.forecasts.pop(0) if self.forecasts else ""
