"""When a replica goes to rest by itself, and what keeps it. Pure: for people who look at the fleet."""

from typing import NamedTuple

from appliance.domain import Deployment, ReplicaState


class Rest(NamedTuple):
    """At most one of the two is set."""

    until: float | None = None
    """Unix seconds: it is put to rest then if nobody asks before."""
    kept_by: str = ""


def rest_of(deployment: Deployment, state: ReplicaState, idle_s: float | None, now: float) -> Rest:
    """`idle_s`: since its last request ended; None while it has one."""
    if state is not ReplicaState.READY:
        return Rest()
    if deployment.min_replica_count > 0:
        return Rest(kept_by=f"minReplicaCount {deployment.min_replica_count}")
    if idle_s is None:
        return Rest(kept_by="busy")
    return Rest(until=now - idle_s + deployment.autoscaling.scale_to_zero_window_s)
