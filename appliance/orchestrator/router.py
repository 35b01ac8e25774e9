"""Which ready replica takes a request, and how long a request may wait for one.

Reads the supervisor's outlook and takes the lease in the same breath, so no state can change in between. Never starts
or stops a replica; a request that gives up waiting cancels no load.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from appliance.config import FleetSettings
from appliance.domain import Deployment
from appliance.errors import Code, HearthError
from appliance.orchestrator.group import Outlook
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.supervisor import Supervisor
from appliance.orchestrator.worker_client import WorkerClient

OVERLOAD_FACTOR = 2
OVERLOAD_SLACK = 4
"""A replica with more than factor × the least load + slack is not worth its warm cache."""


class Router:
    def __init__(self, supervisor: Supervisor, settings: FleetSettings) -> None:
        self._supervisor = supervisor
        self._settings = settings

    @asynccontextmanager
    async def lease(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float
    ) -> AsyncIterator[WorkerClient]:
        """One request's place on a ready replica; the replica does not stop by itself before the lease ends.

        Raises `unavailable` with reason DEPLOYMENT_SCALING_UP after `wait_s`, or with DEPLOYMENT_FAILED at once.
        """
        replica, client = await self._acquire(deployment, affinity_key, wait_s)
        try:
            yield client
        finally:
            replica.release()

    async def _acquire(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float
    ) -> tuple[Replica, WorkerClient]:
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            outlook = self._supervisor.outlook(deployment)
            if outlook.ready:
                loads = {index: replica.load for index, replica in outlook.ready.items()}
                replica = outlook.ready[choose(loads, affinity_key)]
                return replica, replica.acquire()
            if outlook.has_failed:
                message = f"{deployment.name} has failed and is not being restarted; its status says why"
                raise HearthError(Code.UNAVAILABLE, message, reason="DEPLOYMENT_FAILED")
            try:
                async with asyncio.timeout_at(deadline):
                    await self._supervisor.wait_for_change()
            except TimeoutError:
                raise self._refuse(deployment, outlook) from None

    def _refuse(self, deployment: Deployment, outlook: Outlook) -> HearthError:
        why = f": {outlook.waiting_reason}" if outlook.waiting_reason else ""
        load_s = self._settings.cold_start_wait_s if outlook.load_s is None else outlook.load_s
        return HearthError(
            Code.UNAVAILABLE,
            f"{deployment.name} is scaling up{why}",
            retry_after_s=float(max(1, math.ceil(load_s))),
            reason="DEPLOYMENT_SCALING_UP",
        )


def choose(loads: Mapping[int, int], affinity_key: str | None) -> int:
    """The replica with fewest in flight; with a key its own one, unless that is clearly overloaded.

    Rendezvous hashing: when replicas come and go, only the keys of those that went move.
    """
    least_loaded = min(loads, key=lambda index: (loads[index], index))
    if affinity_key is None:
        return least_loaded
    preferred = max(loads, key=lambda index: hashlib.sha256(f"{index} {affinity_key}".encode()).digest())
    limit = OVERLOAD_FACTOR * loads[least_loaded] + OVERLOAD_SLACK
    return preferred if loads[preferred] <= limit else least_loaded
