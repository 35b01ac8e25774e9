"""Whether a replica is loading: what can wait, waits until none is, so that a cold start has the machine to itself."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

SETTLE_S = 2.0
"""A load is mostly wanted for a request, which is computed next and should not be disturbed either."""


class Quiet:
    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._settle_s = settle_s
        self._num_loading = 0
        self._ended_at = float("-inf")
        self._none_loading = asyncio.Event()
        self._none_loading.set()

    @property
    def is_disturbed(self) -> bool:
        """Whether anything loads now; other threads may ask, too."""
        return self._num_loading > 0

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Around everything from the start of a worker, or the wish to wake one, until it serves or has failed."""
        self._num_loading += 1
        self._none_loading.clear()
        try:
            yield
        finally:
            self._num_loading -= 1
            self._ended_at = asyncio.get_running_loop().time()
            if not self._num_loading:
                self._none_loading.set()

    def announce(self) -> None:
        """A load is about to begin."""
        with self.loading():
            pass

    async def wait(self) -> None:
        """Until nothing has been loading for a moment."""
        loop = asyncio.get_running_loop()
        while (rest_s := self._ended_at + self._settle_s - loop.time()) > 0 or self._num_loading:
            await self._none_loading.wait()
            await asyncio.sleep(max(0.0, rest_s))
