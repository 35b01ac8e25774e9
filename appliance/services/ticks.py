"""Work that is done again and again: APScheduler says when, this sees it through.

No tick begins before the last of its kind has ended, an error of one is logged and ends only that one, and `close`
waits for those under way.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

logger = logging.getLogger(__name__)

CLOCK_INTERVAL_S = 1.0

Work = Callable[[], Coroutine[Any, Any, None]]


class Ticks:
    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        # It tells of every run, and warns of each that a busy moment delays; what fails is logged here.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._running: set[asyncio.Task[Any]] = set()
        self._clock_guard: asyncio.Task[None] | None = None

    def add(self, work: Work, interval_s: float) -> None:
        self._scheduler.add_job(
            self._run,
            "interval",
            args=[work],
            seconds=interval_s,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    async def start(self) -> None:
        self._scheduler.start()
        self._clock_guard = asyncio.create_task(self._guard_clock())

    async def close(self) -> None:
        if self._clock_guard is not None:
            self._clock_guard.cancel()
            await asyncio.wait({self._clock_guard})
        self._scheduler.pause()
        await asyncio.sleep(0)  # what was due has its task by now; let it be seen
        if self._running:
            await asyncio.wait(self._running)
        self._scheduler.shutdown(wait=False)

    async def _run(self, work: Work) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await work()
        except Exception:
            logger.exception("a tick failed")
        finally:
            self._running.discard(task)

    async def _guard_clock(self) -> None:
        """APScheduler goes by the wall's clock, and would stand still for as long as that is set back."""
        while True:
            await asyncio.sleep(CLOCK_INTERVAL_S)
            now = datetime.fromtimestamp(self._wall_clock(), UTC)
            for job in self._scheduler.get_jobs():
                if job.next_run_time - now > 2 * job.trigger.interval:
                    job.modify(next_run_time=now)
