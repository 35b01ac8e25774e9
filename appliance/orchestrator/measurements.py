"""What was measured of loads, in memory and in the store, for the next placement and for whoever waits for a load."""

import importlib.metadata
import logging
from collections.abc import Callable

from appliance.domain import Footprint
from appliance.errors import HearthError
from appliance.orchestrator.footprints import learn
from appliance.orchestrator.replica import Measurement
from appliance.store import footprints
from appliance.store.database import Database

logger = logging.getLogger(__name__)

FORGOTTEN_AFTER_S = 180 * 86400.0
"""A footprint not seen again for so long is of a model or a version that is gone."""


class Measurements:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._footprints: dict[str, Footprint] = {}

    async def read(self) -> None:
        """What earlier daemons have learned."""
        async with self._database.transaction() as tx:
            await footprints.delete_before(tx, tx.now - FORGOTTEN_AFTER_S)
        async with self._database.reader() as db:
            self._footprints = {footprint.key: footprint for footprint in await footprints.list_all(db)}

    def get(self, key: str) -> Footprint | None:
        return self._footprints.get(key)

    async def learn(self, key: str, measured: Measurement) -> None:
        """From one more load."""
        footprint = self._footprints[key] = learn(
            key, self._footprints.get(key), measured.loaded, measured.load_s, measured.is_warm, self._clock()
        )
        try:
            async with self._database.transaction() as tx:
                await footprints.put(tx, footprint)
        except HearthError as error:
            logger.error("what a load has measured is not stored: %s", error.message)


def software_version() -> str:
    """What a footprint depends on beside model, settings and device."""
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("hearth", "torch", "transformers"))
