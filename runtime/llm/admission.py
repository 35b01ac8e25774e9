"""Whether one more call may wait, and when to come back if not. Time is an argument; nothing here waits.

The estimate is what waits, in prompt tokens, over the speed at which steps compute prompts: as many leave the queue as
are computed. Only steps count, so an engine that had nothing to do has not become slow by it.
"""

from math import exp

from runtime.engine import RequestRefused
from runtime.llm.backlog import Backlog, Overflow
from runtime.llm.request import Batch, Request
from runtime.message import FailureCode

WINDOW_S = 10.0
"""Of computing; what lies further back counts for little."""
RETRY_AFTER_MIN_S = 1.0
RETRY_AFTER_MAX_S = 60.0
"""Clients take no notice of longer ones."""


class Admission:
    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._num_tokens = 0.0
        self._seconds = 0.0
        """Of the window, older ones weighing less; likewise the tokens."""

    def check(self, choices: list[Request]) -> None:
        """Raises RequestRefused: rate-limited when the tenant's own calls fill its share, else overloaded."""
        match self._backlog.find_overflow(choices):
            case Overflow.TENANT:
                message = "too many of your requests are waiting for this model"
                raise RequestRefused(FailureCode.RATE_LIMITED, message, retry_after_s=self.retry_after_s())
            case Overflow.QUEUE:
                message = "too many requests are waiting for this model"
                raise RequestRefused(FailureCode.OVERLOADED, message, retry_after_s=self.retry_after_s())

    def note_step(self, batch: Batch, duration_s: float) -> None:
        """A step was computed; only its prompt tokens count."""
        kept = exp(-duration_s / WINDOW_S)
        decodes = sum(row.is_sampled for row in batch.scheduled if row.num_tokens == 1)
        num_tokens = sum(row.num_tokens for row in batch.scheduled) - decodes
        self._num_tokens = self._num_tokens * kept + num_tokens
        self._seconds = self._seconds * kept + duration_s

    def retry_after_s(self) -> float:
        """How long what waits now will take to begin."""
        if not self._num_tokens:
            return RETRY_AFTER_MIN_S
        wait_s = self._backlog.total.num_tokens * self._seconds / self._num_tokens
        return min(max(wait_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)
