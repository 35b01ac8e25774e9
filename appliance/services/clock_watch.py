"""Whether the wall's clock jumps: it is compared with the clock that cannot. Slow corrections are no jumps."""

import time
from collections.abc import Callable

JUMP_S = 30.0
"""Less is a correction that no rule of ours would notice."""


class ClockWatch:
    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._seen, self._wall_seen = clock(), wall_clock()
        self._settled_since = self._seen

    @property
    def now(self) -> float:
        """The wall's time as the last look saw it."""
        return self._wall_seen

    @property
    def settled_s(self) -> float:
        """For how long it has run steadily, since this watch began at most."""
        return self._seen - self._settled_since

    def look(self) -> float:
        """How far the wall's clock jumped since the last look, back if negative; 0 when it did not."""
        now, wall_now = self._clock(), self._wall_clock()
        jump_s = (wall_now - self._wall_seen) - (now - self._seen)
        self._seen, self._wall_seen = now, wall_now
        if abs(jump_s) < JUMP_S:
            return 0.0
        self._settled_since = now
        return jump_s
