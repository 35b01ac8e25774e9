"""Whose text is next, and whether one more request may wait. No clock, no log, no torch.

Computed tokens are counted for each tenant; of those that wait the one with the lowest count is next, and its requests
take turns text by text. So neither a tenant with many requests nor a request of many texts is in anybody's way. A
tenant that had nothing waiting starts level with the least served one, so that being idle saves up nothing.
"""

from collections import deque
from enum import Enum, auto
from typing import NamedTuple

from runtime.embedding.request import EmbeddingRequest, Row


class WaitingLimits(NamedTuple):
    """Of the whole queue; one tenant may fill half of either."""

    num_requests: int
    num_tokens: int
    """A request that finds nobody waiting is taken however long it is."""


class Overflow(Enum):
    QUEUE = auto()  # everybody's requests together
    TENANT = auto()  # the tenant's own


class _Line:
    """One tenant's requests with texts that wait."""

    def __init__(self) -> None:
        self.requests: deque[EmbeddingRequest] = deque()
        self.num_tokens = 0


class Turns:
    def __init__(self, limits: WaitingLimits) -> None:
        self._limits = limits
        self._lines: dict[str, _Line] = {}
        """By tenant; never empty."""
        self._served: dict[str, int] = {}
        """Tokens computed, by tenant that waits."""
        self._level = 0
        """Where a tenant begins that had nothing waiting. Never falls."""
        self.num_tokens = 0

    @property
    def num_requests(self) -> int:
        return sum(len(line.requests) for line in self._lines.values())

    def find_overflow(self, request: EmbeddingRequest) -> Overflow | None:
        """Which bound the request would break; None when there is room."""
        own = self._lines.get(request.tenant)
        if own is not None and (
            len(own.requests) + 1 > max(1, self._limits.num_requests // 2)
            or own.num_tokens + request.num_tokens > max(1, self._limits.num_tokens // 2)
        ):
            return Overflow.TENANT
        if self._lines and (
            self.num_requests + 1 > self._limits.num_requests
            or self.num_tokens + request.num_tokens > self._limits.num_tokens
        ):
            return Overflow.QUEUE
        return None

    def add(self, request: EmbeddingRequest) -> None:
        assert request.waiting, "a request has a text at least"
        if request.tenant not in self._lines:
            self._lines[request.tenant] = _Line()
            self._served[request.tenant] = self._level
        line = self._lines[request.tenant]
        line.requests.append(request)
        line.num_tokens += request.num_tokens
        self.num_tokens += request.num_tokens

    def take(self, max_tokens: int) -> list[Row]:
        """The next step's texts: one at least, and no more tokens than that if they are several."""
        rows: list[Row] = []
        room = max_tokens
        while self._lines:
            tenant = min(self._served, key=self._served.__getitem__)
            request = self._lines[tenant].requests[0]
            num_tokens = request.texts[request.waiting[-1]].num_tokens
            if rows and num_tokens > room:
                break
            rows.append(Row(request, request.waiting.pop()))
            room -= num_tokens
            self._charge(tenant, num_tokens)
        return rows

    def remove(self, request: EmbeddingRequest) -> None:
        """Take out what of it still waits."""
        if not request.waiting:
            return
        line = self._lines[request.tenant]
        num_tokens = sum(request.texts[index].num_tokens for index in request.waiting)
        request.waiting.clear()
        line.requests.remove(request)
        line.num_tokens -= num_tokens
        self.num_tokens -= num_tokens
        self._drop_if_empty(request.tenant)

    def _charge(self, tenant: str, num_tokens: int) -> None:
        """The tenant's first request had its turn."""
        line = self._lines[tenant]
        self._level = max(self._level, self._served[tenant])
        self._served[tenant] += num_tokens
        line.num_tokens -= num_tokens
        self.num_tokens -= num_tokens
        request = line.requests.popleft()
        if request.waiting:
            line.requests.append(request)
        self._drop_if_empty(tenant)

    def _drop_if_empty(self, tenant: str) -> None:
        # What it was served beyond the others is forgotten with it: a text's worth, since they took turns.
        if not self._lines[tenant].requests:
            del self._lines[tenant], self._served[tenant]
