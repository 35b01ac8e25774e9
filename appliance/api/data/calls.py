"""What the routes that are no generation have in common: how a call begins, and the headers that its answer has.

Knows no field of a body, and nothing of what a piece holds but what it used.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from aiohttp import web

from appliance.api.data.generation import SESSION_AFFINITY_HEADER, cold_start_wait_s
from appliance.api.data.performance import BACKEND_HOST, Figure, to_headers
from appliance.api.data.rate_limit_headers import rate_limit_headers
from appliance.api.routing import principal, request_id, services
from appliance.services.calls import Call
from appliance.services.demands import Demand
from appliance.services.inference import TaskAnswer
from appliance.services.targets import Target
from runtime.message import Used
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask


class Running:
    """A call that was let in. Its pieces can be read once."""

    def __init__(self, answer: TaskAnswer) -> None:
        self._answer = answer
        self._started = time.monotonic()
        self._first_s: float | None = None
        self._used = Used()

    @property
    def used(self) -> Used:
        """Until now."""
        return self._used

    async def pieces(self) -> AsyncGenerator[AnyPiece, None]:
        """Until the last; what fails raises."""
        async with aclosing(self._answer.pieces) as several:
            async for pieces in several:
                if self._first_s is None:
                    self._first_s = time.monotonic() - self._started
                for piece in pieces:
                    self._used = _sum(self._used, piece.used)
                    yield piece

    def figures(self) -> dict[str, Figure]:
        """All that is known once the last piece came."""
        return {
            "prompt-tokens": self._used.num_prompt_tokens,
            "cached-prompt-tokens": 0,
            "server-time-to-first-token": round(self._first_s or 0.0, 6),
            "server-processing-time": round(time.monotonic() - self._started, 6),
            "deployment": self._answer.target.deployment.name,
            "backend-host": BACKEND_HOST,
        }

    def first_headers(self) -> dict[str, str]:
        """Of an answer that begins before its end is known."""
        return rate_limit_headers(self._answer.headroom)

    def headers(self) -> dict[str, str]:
        """Of one that does not."""
        return self.first_headers() | to_headers(self.figures())


async def run_call(
    request: web.Request,
    *,
    model: str,
    make_task: Callable[[Target], OtherTask],
    demand: Demand,
    affinity_key: str | None = None,
    follow_ups: Callable[[], AsyncIterator[AnyFollowUp]] | None = None,
    has_deadline: bool = True,
    is_repeatable: bool = True,
) -> Running:
    """What is wrong with the request raises here; everything else while its pieces are read."""
    call = Call(
        request_id=request_id(request),
        model=model,
        make_task=make_task,
        demand=demand,
        follow_ups=follow_ups,
        has_deadline=has_deadline,
        is_repeatable=is_repeatable,
        affinity_key=request.headers.get(SESSION_AFFINITY_HEADER) or affinity_key,
        cold_start_wait_s=cold_start_wait_s(request),
    )
    return Running(await services(request).inference.perform(principal(request), call))


def _sum(one: Used, other: Used) -> Used:
    return Used(
        num_prompt_tokens=one.num_prompt_tokens + other.num_prompt_tokens,
        audio_ms=one.audio_ms + other.audio_ms,
        num_images=one.num_images + other.num_images,
    )
