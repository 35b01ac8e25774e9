"""What holds the devices' memory beside our own live workers: processes of others, and dead ones of ours.

Tells the ledger; decides nothing. A device that cannot be asked counts as full.
"""

import logging
from collections.abc import Callable, Collection

from appliance.errors import HearthError
from appliance.orchestrator.gpus import Inventory
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.process import exists

logger = logging.getLogger(__name__)

RECOVERY_INTERVAL_S = 5.0
OBSERVATION_INTERVAL_S = 10.0
"""While nobody waits for room; it is for displays then."""


class MemoryWatch:
    def __init__(self, inventory: Inventory, ledger: Ledger) -> None:
        self._inventory = inventory
        self._ledger = ledger
        self._observed_at = float("-inf")
        self._asked_at = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether processes of others were not looked for of late."""
        return now - self._observed_at >= OBSERVATION_INTERVAL_S

    async def observe_foreign(self, own_pids: Collection[int], leased_bytes: Callable[[str], int], now: float) -> None:
        """`leased_bytes`: what programs outside Hearth were lent of a device; that much is counted already."""
        self._observed_at = now
        for device in self._inventory.devices:
            try:
                used_bytes = await self._inventory.used_bytes(device.id)
            except HearthError as error:
                logger.warning("%s takes no new replica: %s", device.id, error.message)
                self._ledger.observe_foreign(device.id, device.memory_bytes)
                continue
            written_off = {pid for device_id, pid in self._ledger.unreturned() if device_id == device.id}
            # In a container NVML may give pids of the host, ours among them under names that we cannot know.
            foreign = sum(
                held
                for pid, held in used_bytes.items()
                if pid not in own_pids and pid not in written_off and exists(pid)
            )
            self._ledger.observe_foreign(device.id, max(0, foreign - leased_bytes(device.id)))

    async def recover(self, now: float) -> None:
        """Ask again for memory that the driver had not given back; `now` only says how long ago that was done."""
        if now - self._asked_at < RECOVERY_INTERVAL_S:
            return
        self._asked_at = now
        for device_id, pid in self._ledger.unreturned():
            try:
                is_back = pid not in await self._inventory.used_bytes(device_id)
            except HearthError:
                continue
            if is_back:
                logger.info("%s has given back the memory of dead worker %d", device_id, pid)
                self._ledger.recover(device_id, pid)
