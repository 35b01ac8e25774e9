"""How much waits, in all and of each tenant, and whether one more call may join it. No clock, no log, no torch.

Both bounds are of the whole queue, in requests and in prompt tokens; one tenant may fill half of either, so that
nobody can shut the door to the others. Who is next is `fair_queue.py`'s affair.
"""

from enum import Enum, auto
from typing import NamedTuple

from runtime.llm.request import Request


class BacklogLimits(NamedTuple):
    num_requests: int
    num_tokens: int
    """A call that finds nobody waiting is taken however long its prompt is."""


class Amount(NamedTuple):
    num_requests: int = 0
    num_tokens: int = 0

    def plus(self, num_requests: int, num_tokens: int) -> "Amount":
        return Amount(self.num_requests + num_requests, self.num_tokens + num_tokens)

    def exceeds(self, limits: BacklogLimits) -> bool:
        return self.num_requests > limits.num_requests or self.num_tokens > limits.num_tokens


class Overflow(Enum):
    QUEUE = auto()  # everybody's requests together
    TENANT = auto()  # the tenant's own


class Backlog:
    def __init__(self, limits: BacklogLimits) -> None:
        self.total = Amount()
        self._limits = limits
        self._share = BacklogLimits(max(1, limits.num_requests // 2), max(1, limits.num_tokens // 2))
        self._by_tenant: dict[str, Amount] = {}
        """Of those with something waiting."""

    def find_overflow(self, choices: list[Request]) -> Overflow | None:
        """Which bound the choices of a call would break; None when there is room. Their prompt counts once."""
        added = Amount(len(choices), len(choices[0].prompt_token_ids))
        own = self._by_tenant.get(choices[0].tenant, Amount())
        if own.num_requests and own.plus(*added).exceeds(self._share):
            return Overflow.TENANT
        if added.num_requests > self._limits.num_requests or (
            self.total.num_requests and self.total.plus(*added).exceeds(self._limits)
        ):
            return Overflow.QUEUE
        return None

    def enter(self, request: Request) -> None:
        self._change(request, 1)

    def leave(self, request: Request) -> None:
        self._change(request, -1)

    def of(self, tenant: str) -> Amount:
        return self._by_tenant.get(tenant, Amount())

    def _change(self, request: Request, sign: int) -> None:
        change = (sign, sign * request.num_queued_tokens)
        self.total = self.total.plus(*change)
        own = self.of(request.tenant).plus(*change)
        if own.num_requests:
            self._by_tenant[request.tenant] = own
        else:
            del self._by_tenant[request.tenant]
