"""SIGHUP: the configuration is read again, and what may change while the daemon runs changes at once.

A configuration with a mistake changes nothing. What cannot change without a restart is named in the log.
"""

import asyncio
import logging
from collections.abc import Callable

from appliance.config import Config
from appliance.errors import HearthError
from appliance.live_config import LiveConfig
from appliance.logs import configure_logging
from appliance.operations.service_manager import ServiceManager

logger = logging.getLogger(__name__)


class Reloader:
    def __init__(
        self, live: LiveConfig, load: Callable[[], Config], service_manager: ServiceManager, status: str
    ) -> None:
        """`load` reads the configuration as the start did; `status` is what the service manager shows in between."""
        self._live = live
        self._load = load
        self._service_manager = service_manager
        self._status = status

    async def follow(self, hangups: asyncio.Event) -> None:
        """Reload whenever it is set, for ever. Several hangups during a reload are one more."""
        while True:
            await hangups.wait()
            hangups.clear()
            self._service_manager.reloading()
            await self._reload()
            self._service_manager.ready(self._status)

    async def _reload(self) -> None:
        try:
            fresh = await asyncio.to_thread(self._load)
        except HearthError as error:
            return logger.error("the configuration stays as it was: %s", error.message)
        taken, needs_restart = self._live.take(fresh)
        configure_logging(self._live.current.log)
        if needs_restart:
            logger.warning("these settings changed and need a restart: %s", ", ".join(needs_restart))
        return logger.info("reloaded the configuration; changed: %s", ", ".join(taken) or "nothing")
