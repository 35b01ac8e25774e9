"""Device seconds: how long the replicas of each deployment hold how many devices of which type. Asleep they hold none.

Looked at every second; told to the journal less often, so that an idle replica costs the disk next to nothing.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from appliance.domain import AcceleratorUser, Deployment, ReplicaState
from appliance.orchestrator.gpus import Device
from appliance.services.spending import Spending
from appliance.services.usage_journal import UsageJournal

LOOK_INTERVAL_S = 1.0
TELL_INTERVAL_S = 10.0


class SeenReplica(Protocol):
    """What must be known of a replica here."""

    @property
    def state(self) -> ReplicaState: ...

    @property
    def device_ids(self) -> tuple[str, ...]: ...

    @property
    def held_bytes(self) -> int: ...


class DeviceTime:
    def __init__(
        self,
        devices: Sequence[Device],
        list_replicas: Callable[[], Iterable[tuple[Deployment, SeenReplica]]],
        journal: UsageJournal,
        spending: Spending,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`list_replicas` is the supervisor's: of every account."""
        self._types = {device.id: device.accelerator_type for device in devices}
        self._list_replicas = list_replicas
        self._journal = journal
        self._spending = spending
        self._clock = clock
        self._looked_at = self._told_at = clock()
        self._untold: dict[AcceleratorUser, float] = {}

    async def look(self) -> None:
        """What holds devices now has held them since the last look."""
        now = self._clock()
        elapsed_s = now - self._looked_at
        self._looked_at = now
        for deployment, replica in self._list_replicas():
            if replica.held_bytes and replica.state is not ReplicaState.ASLEEP:
                for device_id in replica.device_ids:
                    self._count(deployment, self._types.get(device_id, ""), elapsed_s)
        if now - self._told_at >= TELL_INTERVAL_S:
            self.tell()

    def tell(self) -> None:
        """The journal, of all that it does not know."""
        self._told_at = self._clock()
        if self._untold:
            self._journal.add_accelerators(self._untold)
            self._untold = {}

    def _count(self, deployment: Deployment, accelerator_type: str, seconds: float) -> None:
        user = AcceleratorUser(
            account_id=deployment.account_id,
            deployment=deployment.name,
            base_model=deployment.base_model,
            accelerator_type=accelerator_type,
        )
        self._untold[user] = self._untold.get(user, 0.0) + seconds
        self._spending.add_accelerators(user, seconds)
