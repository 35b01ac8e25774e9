"""Facts that tests of the fleet's decisions start from: 80 GiB devices, one hour after the beginning of time."""

from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.config import GIB, FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import ClaimFact, Demand, DeploymentFact, Fleet, Priority, ReplicaFact
from appliance.orchestrator.gpus import Device
from tests.fakes.fake_gpus import fake_device

NOW = 3600.0
SETTINGS = FleetSettings()


def demand(gigabytes: float, accelerator_type: str | None = None, count: int = 1) -> Demand:
    return Demand(int(gigabytes * GIB), accelerator_type, count)


def replica(gigabytes: float = 60, devices: Sequence[int] = (0,), **changes: Any) -> ReplicaFact:
    """READY for half an hour, idle for ten minutes."""
    fact = ReplicaFact(
        index=0,
        revision=1,
        state=ReplicaState.READY,
        device_ids=tuple(f"simulated-{index}" for index in devices),
        reserved_bytes=int(gigabytes * GIB),
        ready_at=NOW - 1800,
        idle_since=None if changes.get("num_in_flight") else NOW - 600,
    )
    return msgspec.structs.replace(fact, **changes)


def deployment(
    name: str, *replicas: ReplicaFact, account: str = "acme", gigabytes: float = 60, **changes: Any
) -> DeploymentFact:
    """As many replicas desired as it has, or one that somebody waits for."""
    fact = DeploymentFact(
        name=f"accounts/{account}/deployments/{name}",
        desired=max(1, len(replicas)),
        min_replica_count=0,
        revision=1,
        priority=Priority.DEPLOYMENT,
        is_pinned=False,
        may_evict=True,
        created_at=0.0,
        last_used_at=NOW - 600,
        demands=(demand(gigabytes),),
        waiting_since=None if replicas else NOW - 5,
        num_waiting=0 if replicas else 1,
        replicas=replicas,
    )
    return msgspec.structs.replace(fact, **changes)


def claim(owner: str, priority: Priority, gigabytes: float = 60, *, waits_s: float | None = None) -> ClaimFact:
    """Granted on the first device, or waiting for so long."""
    waiting_since = None if waits_s is None else NOW - waits_s
    device_ids = ("simulated-0",) if waits_s is None else ()
    return ClaimFact(
        owner, priority, demand(gigabytes), may_evict=True, waiting_since=waiting_since, device_ids=device_ids
    )


def fleet(
    *deployments: DeploymentFact,
    claims: Sequence[ClaimFact] = (),
    devices: Sequence[Device] = (fake_device(),),
    host_gigabytes: float = 0,
    now: float = NOW,
) -> Fleet:
    """What nobody of them holds is free; `host_gigabytes` is what host memory has left."""
    free = {device.id: device.memory_bytes for device in devices}
    holders = [(each.device_ids, each.demand.num_bytes) for each in claims]
    holders += [
        (each.device_ids, each.reserved_bytes)
        for deployment in deployments
        for each in deployment.replicas
        if each.state is not ReplicaState.ASLEEP and not each.has_given_up
    ]
    for device_ids, num_bytes in holders:
        for device_id in device_ids:
            free[device_id] -= num_bytes
    assert min(free.values()) >= 0, "the sample holds more than its devices have"
    return Fleet(now, devices, free, int(host_gigabytes * GIB), deployments, claims)
