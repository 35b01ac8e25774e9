"""How many tokens a step may have, and when to come back if the queue is full: both follow from the speed of late.

A step ends before anybody new is heard, so it is kept short. Time is an argument; nothing here waits.
"""

from math import exp

STEP_S = 0.25
"""What a step takes at most, where the device is slower than that with a whole one."""
STEP_TOKENS_MIN = 512
FIRST_SPEED = 1000.0
"""Tokens per second that are taken for granted."""
WINDOW_S = 10.0
"""Of computing; what lies further back counts for little."""
RETRY_AFTER_MIN_S = 1.0
RETRY_AFTER_MAX_S = 60.0
"""Clients take no notice of longer ones."""


class Pace:
    def __init__(self, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._num_tokens = 0.0
        self._seconds = 0.0
        """Of the window, older ones weighing less; likewise the tokens."""

    def note_step(self, num_tokens: int, duration_s: float) -> None:
        kept = exp(-duration_s / WINDOW_S)
        self._num_tokens = self._num_tokens * kept + num_tokens
        self._seconds = self._seconds * kept + duration_s

    def step_tokens(self) -> int:
        """A single text may have more."""
        if not self._seconds:
            return min(STEP_TOKENS_MIN, self._max_batch_tokens)
        paced = int(self._num_tokens / self._seconds * STEP_S)
        return min(max(paced, STEP_TOKENS_MIN), self._max_batch_tokens)

    def expected_s(self, num_tokens: int) -> float:
        """How long a step of so many will take; slow until the contrary was seen."""
        speed = self._num_tokens / self._seconds if self._seconds else FIRST_SPEED
        return num_tokens / speed

    def retry_after_s(self, num_waiting_tokens: int) -> float:
        """How long what waits now will take."""
        if not self._num_tokens:
            return RETRY_AFTER_MIN_S
        wait_s = num_waiting_tokens * self._seconds / self._num_tokens
        return min(max(wait_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)
