"""Feeds systemd's watchdog, but only after a real look: the state store answers and the supervisor still looks.

The event loop needs no question of its own: nothing is fed while it is stalled.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from appliance.operations.service_manager import ServiceManager
from appliance.store.database import Database

logger = logging.getLogger(__name__)

FEEDINGS_PER_TIMEOUT = 2


class Supervision(Protocol):
    @property
    def is_running(self) -> bool: ...

    @property
    def num_looks(self) -> int: ...


class Watchdog:
    def __init__(
        self,
        service_manager: ServiceManager,
        database: Database,
        supervisor: Supervision,
        look_interval_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._service_manager = service_manager
        self._database = database
        self._supervisor = supervisor
        self._interval_s = (service_manager.watchdog_s or 0.0) / FEEDINGS_PER_TIMEOUT
        self._look_deadline_s = look_interval_s + self._interval_s
        self._clock = clock or asyncio.get_running_loop().time
        self._num_looks_seen = -1
        self._looked_at = 0.0

    async def feed(self) -> None:
        """For ever; at once the first time. Does nothing where nobody watches."""
        while self._interval_s:
            began_at = self._clock()
            try:
                async with asyncio.timeout(self._interval_s):
                    complaint = await self._find_complaint()
            except TimeoutError:
                complaint = "the state store does not answer"
            if complaint:
                logger.error("the service manager's watchdog is not fed: %s", complaint)
            else:
                self._service_manager.alive()
            await asyncio.sleep(max(0.0, began_at + self._interval_s - self._clock()))

    async def _find_complaint(self) -> str:
        """What is wrong with the daemon; empty when nothing is."""
        if not await self._database.answers():
            return "the state store cannot be read"
        if not self._supervisor.is_running:
            return "the supervisor is not running"
        if self._supervisor.num_looks != self._num_looks_seen:
            self._num_looks_seen, self._looked_at = self._supervisor.num_looks, self._clock()
        silent_s = self._clock() - self._looked_at
        return f"the supervisor has not looked for {silent_s:.0f} s" if silent_s > self._look_deadline_s else ""
