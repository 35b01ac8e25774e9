"""Who is next: waiting requests, shared out between tenants by what each was served. No clock, no log, no torch.

A virtual token counter per tenant says what was computed for it. Of the tenants that wait the one with the lowest is
next; within a tenant, whoever came first. A tenant that had nothing waiting starts level with the least served one, so
that being idle saves up nothing. What admission needs besides its turn, room, is the scheduler's affair.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from runtime.llm.request import Request

PROMPT_WEIGHT = 1
OUTPUT_WEIGHT = 2
"""A generated token occupies a row of a step and its KV for long, where a prompt's tokens share one forward."""


class FairQueue:
    def __init__(self) -> None:
        self._returned: deque[Request] = deque()
        """Preempted ones: they had their turn."""
        self._lines: dict[str, deque[Request]] = {}
        """By tenant, in the order in which they began to wait; never empty."""
        self._counters: dict[str, int] = {}
        """By tenant; none has been served less than 0."""
        self._last_tenant = ""
        """Whose line was the last to end."""

    def __len__(self) -> int:
        return len(self._returned) + sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Request]:
        """Preempted ones first, then tenant by tenant: not the order in which they will run."""
        yield from self._returned
        for line in self._lines.values():
            yield from line

    def append(self, request: Request) -> None:
        """Behind the others of its tenant."""
        self._line(request.tenant).append(request)

    def put_first(self, requests: list[Request]) -> None:
        """Before the others of their tenant, in this order; all are of one."""
        if requests:
            self._line(requests[0].tenant).extendleft(reversed(requests))

    def give_back(self, request: Request) -> None:
        """A preempted request is next, whoever waits."""
        self._returned.appendleft(request)

    def peek(self) -> Request | None:
        """Who is next. Of tenants served alike, the one that has waited longest."""
        if self._returned:
            return self._returned[0]
        if not self._lines:
            return None
        return self._lines[min(self._lines, key=self._counters.__getitem__)][0]

    def remove(self, request: Request) -> None:
        """Take it out, from wherever it waits."""
        if request in self._returned:
            self._returned.remove(request)
            return
        line = self._lines[request.tenant]
        line.remove(request)
        if not line:
            del self._lines[request.tenant]
            self._last_tenant = request.tenant

    def charge_prompt(self, tenant: str, num_tokens: int) -> None:
        self._charge(tenant, PROMPT_WEIGHT * num_tokens)

    def charge_output(self, tenant: str, num_tokens: int) -> None:
        self._charge(tenant, OUTPUT_WEIGHT * num_tokens)

    def counters(self) -> dict[str, int]:
        """What is remembered of each tenant; one that is missing counts as served like the least served that waits."""
        return self._counters.copy()

    def _line(self, tenant: str) -> "deque[Request]":
        if tenant not in self._lines:
            level = self._level()
            own = max(level, self._counters.get(tenant, 0))
            # Whoever is below the level would be lifted to it on return: forgotten, so that tenants do not add up.
            self._counters = {
                other: count for other, count in self._counters.items() if count > level or other in self._lines
            }
            self._counters[tenant] = own
            self._lines[tenant] = deque()
        return self._lines[tenant]

    def _level(self) -> int:
        """Where a tenant begins that had nothing waiting. Never falls."""
        waiting: Iterable[str] = self._lines or (self._last_tenant,)
        return min(self._counters.get(tenant, 0) for tenant in waiting)

    def _charge(self, tenant: str, amount: int) -> None:
        self._counters[tenant] = self._counters.get(tenant, self._level()) + amount
