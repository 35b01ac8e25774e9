"""Which deployments end by themselves, and when: those that nobody uses, and those whose time is over. Pure.

The wall's clock is believed only when it has been steady for a while: a deployment is not deleted for time that did
not pass.
"""

from appliance.domain import Deployment, DeploymentState

SETTLED_S = 600.0
"""So long must the wall's clock have run steadily, under the daemon's eyes, before it ends anything older than that."""


def due(deployment: Deployment, now: float, settled_s: float) -> str:
    """Why it is to be deleted now; empty when it is not.

    `settled_s`: for how long the clock has run steadily, since the daemon's start at most.
    """
    if deployment.state in (DeploymentState.DELETING, DeploymentState.DELETED):
        return ""
    expires_at = deployment.expires_at
    if expires_at is not None and now >= expires_at and settled_s >= min(SETTLED_S, expires_at - deployment.created_at):
        return "its expireTime is over"
    limit_s = deployment.auto_delete_s
    if not limit_s or deployment.min_replica_count:
        return ""
    if now - touched_at(deployment, now) >= limit_s and settled_s >= min(SETTLED_S, limit_s):
        return f"unused for {limit_s:g} s"
    return ""


def touched_at(deployment: Deployment, now: float) -> float:
    """Its last use, or the last time a person changed it. A time that is yet to come says nothing."""
    known = (deployment.created_at, deployment.updated_at, deployment.last_used_at or deployment.created_at)
    return max((at for at in known if at <= now), default=now)
