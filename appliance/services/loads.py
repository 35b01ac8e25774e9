"""What each deployment carries: requests at once, rates, tokens, latencies over the last minutes, time of last use.

In memory only, one entry per second in which something happened, so an idle deployment costs nothing and a busy one
a bounded number of entries. Windows use the monotonic clock; only times of last use, which are stored, use the wall's.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from appliance.errors import Code, HearthError
from runtime.protocol import AnyPiece, Delta

KEPT_S = 1200
"""How far back a window may reach."""
SAMPLES_PER_SECOND = 32
"""Answers of one second whose times are kept; all of them are counted."""


class AnswerTimes(msgspec.Struct):
    """One request that was answered in full. Queue and generation times are of its slowest choice."""

    latency_s: float = 0.0
    first_token_s: float = 0.0
    prefill_queue_s: float = 0.0
    prefill_s: float = 0.0
    generation_queue_s: float = 0.0
    num_generated_tokens: int = 0
    num_prompt_tokens: int = 0


class Second(msgspec.Struct):
    """What happened in one second of the monotonic clock."""

    at: int
    num_begun: int = 0
    num_answered: int = 0
    failures: Counter[Code] = msgspec.field(default_factory=Counter)
    """Ended by an error; what a client gave up is neither answered nor failed."""
    num_generated_tokens: int = 0
    """When they came; those of prompts, when the request ended."""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    samples: list[AnswerTimes] = []
    changed_at: float = 0.0
    """The last change of `num_in_flight` in this second,"""
    num_in_flight: int = 0
    """what it was then,"""
    busy_s: float = 0.0
    """and the seconds of all requests together up to then, since the daemon began."""


class LoadWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the last `span_s` seconds."""

    span_s: float
    concurrent_requests: float = 0.0
    """On average."""
    num_begun: int = 0
    num_answered: int = 0
    num_failed: int = 0
    failures: Mapping[Code, int] = {}
    """All that failed, by the error's code."""
    num_generated_tokens: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    samples: Sequence[AnswerTimes] = ()
    """Of answers that ended within it, SAMPLES_PER_SECOND at most of each second."""


class DeploymentLoad:
    """One deployment's."""

    def __init__(self, now: float) -> None:
        self.num_in_flight = 0
        self.idle_since: float | None = None
        """When its last request ended; None when there was none, and while there is one."""
        self.last_used_at: float | None = None
        """By the wall's clock."""
        self._seconds: deque[Second] = deque([Second(at=math.floor(now), changed_at=now)])

    def second(self, now: float) -> Second:
        """The entry of this second."""
        newest = self._seconds[-1]
        at = math.floor(now)
        if newest.at < at:
            newest = Second(
                at=at,
                changed_at=newest.changed_at,
                num_in_flight=newest.num_in_flight,
                busy_s=newest.busy_s,
            )
            self._seconds.append(newest)
            # One older than all windows stays: it says what was in flight when the oldest window begins.
            while len(self._seconds) > 1 and self._seconds[1].at < at - KEPT_S:
                self._seconds.popleft()
        return newest

    def change_in_flight(self, now: float, by: int) -> None:
        second = self.second(now)
        second.busy_s += second.num_in_flight * (now - second.changed_at)
        second.changed_at = now
        second.num_in_flight += by
        self.num_in_flight = second.num_in_flight
        self.idle_since = None if self.num_in_flight else now

    def window(self, now: float, seconds: float) -> LoadWindow:
        begins_at = math.floor(now - min(seconds, KEPT_S))
        entries: list[Second] = []
        for second in reversed(self._seconds):
            if second.at < begins_at:
                break
            entries.append(second)
        span_s = now - begins_at
        failures = sum((second.failures for second in entries), Counter[Code]())
        return LoadWindow(
            span_s=span_s,
            concurrent_requests=max(0.0, self._busy_s(now) - self._busy_s(begins_at)) / span_s if span_s else 0.0,
            num_begun=sum(second.num_begun for second in entries),
            num_answered=sum(second.num_answered for second in entries),
            num_failed=failures.total(),
            failures=failures,
            num_generated_tokens=sum(second.num_generated_tokens for second in entries),
            num_prompt_tokens=sum(second.num_prompt_tokens for second in entries),
            num_cached_tokens=sum(second.num_cached_tokens for second in entries),
            num_drafted_tokens=sum(second.num_drafted_tokens for second in entries),
            num_accepted_tokens=sum(second.num_accepted_tokens for second in entries),
            samples=[sample for second in entries for sample in second.samples],
        )

    def _busy_s(self, at: float) -> float:
        """Seconds of all requests together up to `at`, which is now or the beginning of a second."""
        for second in reversed(self._seconds):
            if second.changed_at <= at:
                return second.busy_s + second.num_in_flight * (at - second.changed_at)
        return 0.0


class RequestLoad:
    """One request while it runs: what its answer brings is counted as it comes."""

    def __init__(self, load: DeploymentLoad, clock: Callable[[], float]) -> None:
        self._load = load
        self._clock = clock
        self._began_at = clock()
        self._times = AnswerTimes()
        self._has_begun_answering = False

    def count(self, deltas: Sequence[Delta]) -> None:
        second, times = self._begin_answering(), self._times
        for delta in deltas:
            second.num_generated_tokens += len(delta.token_ids)
            times.num_generated_tokens += len(delta.token_ids)
            if delta.usage is not None:
                second.num_prompt_tokens += delta.usage.num_prompt_tokens
                second.num_cached_tokens += delta.usage.num_cached_tokens
                times.num_prompt_tokens += delta.usage.num_prompt_tokens
            if (spent := delta.performance) is not None:
                second.num_drafted_tokens += spent.num_drafted_tokens
                second.num_accepted_tokens += spent.num_accepted_tokens
                times.prefill_queue_s = max(times.prefill_queue_s, spent.prefill_queue_s)
                times.prefill_s = max(times.prefill_s, spent.prefill_s)
                times.generation_queue_s = max(times.generation_queue_s, spent.generation_queue_s)

    def count_pieces(self, pieces: Sequence[AnyPiece]) -> None:
        """Of an answer that is no generation: the first of them stands for the first token."""
        second = self._begin_answering()
        for piece in pieces:
            second.num_prompt_tokens += piece.used.num_prompt_tokens
            self._times.num_prompt_tokens += piece.used.num_prompt_tokens

    def finish(self) -> None:
        """It was answered in full."""
        now = self._clock()
        self._times.latency_s = now - self._began_at
        second = self._load.second(now)
        second.num_answered += 1
        if len(second.samples) < SAMPLES_PER_SECOND:
            second.samples.append(self._times)

    def fail(self, code: Code) -> None:
        self._load.second(self._clock()).failures[code] += 1

    def _begin_answering(self) -> Second:
        """Something came, in this second."""
        now = self._clock()
        if not self._has_begun_answering:
            self._has_begun_answering = True
            self._times.first_token_s = now - self._began_at
        return self._load.second(now)


class Loads:
    """Of all deployments, by name."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._loads: dict[str, DeploymentLoad] = {}
        self._used: dict[str, float] = {}
        """Times of last use that are not stored yet."""

    @contextmanager
    def request(self, deployment: str) -> Iterator[RequestLoad]:
        """One request from its arrival to its end, however it ends; waiting for a replica included."""
        load = self._loads.setdefault(deployment, DeploymentLoad(self._clock()))
        load.second(self._clock()).num_begun += 1
        load.change_in_flight(self._clock(), +1)
        self._use(deployment, load)
        request = RequestLoad(load, self._clock)
        try:
            yield request
            request.finish()
        except HearthError as error:
            request.fail(error.code)
            raise
        finally:
            load.change_in_flight(self._clock(), -1)
            self._use(deployment, load)

    def num_in_flight(self, deployment: str) -> int:
        load = self._loads.get(deployment)
        return 0 if load is None else load.num_in_flight

    def idle_s(self, deployment: str) -> float:
        """Since its last request ended; infinite when there was none, 0 while it has one."""
        load = self._loads.get(deployment)
        if load is None:
            return math.inf
        if load.num_in_flight:
            return 0.0
        return math.inf if load.idle_since is None else self._clock() - load.idle_since

    def last_used_at(self, deployment: str) -> float | None:
        """By the wall's clock, newer than what is stored; while it has a request, now."""
        load = self._loads.get(deployment)
        if load is None:
            return None
        return self._wall_clock() if load.num_in_flight else load.last_used_at

    def window(self, deployment: str, seconds: float) -> LoadWindow:
        """The last `seconds`, at most KEPT_S, and the part of a second that has begun."""
        load = self._loads.get(deployment)
        return LoadWindow(span_s=min(seconds, KEPT_S)) if load is None else load.window(self._clock(), seconds)

    def take_used(self) -> dict[str, float]:
        """Times of last use since the last call, for who stores them."""
        for deployment, load in self._loads.items():
            if load.num_in_flight:
                self._use(deployment, load)
        used, self._used = self._used, {}
        return used

    def put_back_used(self, used: dict[str, float]) -> None:
        """They could not be stored."""
        self._used = used | self._used

    def move_used(self, by_s: float) -> None:
        """The wall's clock jumped: times of last use move along."""
        self._used = {deployment: at + by_s for deployment, at in self._used.items()}
        for load in self._loads.values():
            if load.last_used_at is not None:
                load.last_used_at += by_s

    def forget_all_but(self, deployments: Collection[str]) -> None:
        """The others are gone; one that still has a request is kept."""
        for name in [name for name, load in self._loads.items() if name not in deployments and not load.num_in_flight]:
            del self._loads[name]

    def _use(self, deployment: str, load: DeploymentLoad) -> None:
        load.last_used_at = self._used[deployment] = self._wall_clock()
