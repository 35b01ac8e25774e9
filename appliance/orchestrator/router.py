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
from appliance.orchestrator.adapters import Adapters
from appliance.orchestrator.group import ColdStart, Outlook
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.supervisor import Supervisor
from appliance.orchestrator.worker_client import WorkerClient

OVERLOAD_FACTOR = 2
OVERLOAD_SLACK = 4
"""A replica with more than factor × the least load + slack is not worth its warm cache."""


class NotWanted(Exception):
    """No replica is desired of the deployment any more, or it is going away: who still wants one must wake it."""


class Router:
    def __init__(self, supervisor: Supervisor, settings: FleetSettings, adapters: Adapters) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._adapters = adapters

    @asynccontextmanager
    async def lease(
        self, deployment: Deployment, affinity_key: str | None, wait_s: float, adapter: str = ""
    ) -> AsyncIterator[WorkerClient]:
        """One request's place on a ready replica that has the adapter; it does not stop by itself before the end.

        Raises `unavailable` with reason DEPLOYMENT_SCALING_UP after `wait_s`, or with DEPLOYMENT_FAILED at once;
        NotWanted when there is nothing to wait for.
        """
        key = affinity_key if deployment.enable_session_affinity else None
        replica = self._choose(self._supervisor.outlook(deployment), key, adapter)
        if replica is None:
            with self._supervisor.waiting(deployment):
                replica = await self._wait(deployment, key, wait_s, adapter)
        client = replica.acquire()  # nothing may come between this and the choice
        try:
            yield client
        finally:
            replica.release()

    def forecast(self, deployment: Deployment, wait_s: float) -> str:
        """How far the load is that a request waits for; empty when it does not wait, or would not wait long enough."""
        outlook = self._supervisor.outlook(deployment)
        start = outlook.cold_start
        if outlook.ready or start is None or (start.eta_s is not None and start.eta_s > wait_s):
            return ""
        return describe(start)

    def _choose(self, outlook: Outlook, key: str | None, adapter: str) -> Replica | None:
        loads = {
            index: replica.load
            for index, replica in outlook.ready.items()
            if self._adapters.has_adapter(replica, adapter)
        }
        return outlook.ready[choose(loads, key)] if loads else None

    async def _wait(self, deployment: Deployment, key: str | None, wait_s: float, adapter: str) -> Replica:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            outlook = self._supervisor.outlook(deployment)
            if replica := self._choose(outlook, key, adapter):
                return replica
            if outlook.has_failed:
                message = f"{deployment.name} has failed and is not being restarted; its status says why"
                raise HearthError(Code.UNAVAILABLE, message, reason="DEPLOYMENT_FAILED")
            if why := self._adapters.refusal(outlook.ready.values(), adapter):
                message = f"{adapter} could not be loaded: {why}"
                raise HearthError(Code.FAILED_PRECONDITION, message, "model", reason="ADDON_FAILED")
            if loop.time() >= deadline:
                raise self._refuse(deployment, outlook)
            # Not only for a change: what is desired may become nothing without any replica noticing.
            await self._until_change(min(deadline, loop.time() + self._settings.supervisor_interval_s))
            # Judged after a look of the supervisor's at the earliest: before, it may not know of a wake yet.
            if not self._supervisor.outlook(deployment).is_wanted:
                raise NotWanted

    async def _until_change(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._supervisor.wait_for_change()
        except TimeoutError:
            pass  # the caller looks by itself

    def _refuse(self, deployment: Deployment, outlook: Outlook) -> HearthError:
        start = outlook.cold_start
        message = f"{deployment.name} is scaling up"
        details: dict[str, object] = {}
        if start is not None:
            message = f"{message}: {describe(start)}"
            details = {"stage": start.stage, "percent": _percent(start), "eta_s": start.eta_s}
        elif outlook.waiting_reason:
            message = f"{message}: {outlook.waiting_reason}"
            details = {"stage": "waiting for room", "waiting_reason": outlook.waiting_reason}
        return HearthError(
            Code.UNAVAILABLE,
            message,
            retry_after_s=float(max(1, math.ceil(self._ready_in_s(outlook)))),
            reason="DEPLOYMENT_SCALING_UP",
            details={"cold_start": details},
        )

    def _ready_in_s(self, outlook: Outlook) -> float:
        if outlook.cold_start is not None and outlook.cold_start.eta_s is not None:
            return outlook.cold_start.eta_s
        return self._settings.cold_start_wait_s if outlook.load_s is None else outlook.load_s


def describe(start: ColdStart) -> str:
    """One line for people, e.g. "loading 40 % (weights), ready in about 3 s"."""
    eta = "" if start.eta_s is None else f", ready in about {max(1, math.ceil(start.eta_s))} s"
    return f"loading {_percent(start)} % ({start.stage}){eta}"


def _percent(start: ColdStart) -> int:
    return round(100 * start.fraction)


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
