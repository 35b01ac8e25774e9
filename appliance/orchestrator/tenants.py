"""Who holds memory now, and what keeps each of them from giving it to somebody who waits. Pure.

Never: pinned replicas, the last ones that a minimum guarantees, those still in their minimum residency, leases.
Idle replicas of equal or lower priority and jobs make room at once; busy ones only for somebody whose wait is nearly
over, and they finish what they run first.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.claimants import Claimant
from appliance.orchestrator.fleet import ClaimFact, DeploymentFact, Fleet, Priority, ReplicaFact


class Ease(IntEnum):
    """What comes back soonest is asked first."""

    IDLE = 0
    SLOW = 1  # on its way back already, once requests have finished
    BUSY = 2
    LATER = 3  # still in its minimum residency, or loading


class Cost(NamedTuple):
    """Of taking a tenant's memory; lower goes first."""

    ease: Ease
    priority: int
    used_at: float
    """Least recently used goes first, of busy ones the one that has been ready for longest; of later ones the first
    that may be asked."""


class Tenant(NamedTuple):
    owner: str
    """As in the ledger."""
    device_ids: tuple[str, ...]
    num_bytes: int
    """On each of them."""
    priority: Priority
    is_leaving: bool
    is_busy: bool
    obstacle: str
    """What stands in the way of whoever asks."""
    passes_at: float | None = None
    """When that is over, if time alone does it."""
    deployment: DeploymentFact | None = None
    """None: a lease or a job."""
    replica: ReplicaFact | None = None

    @property
    def used_at(self) -> float:
        """0 for a claim."""
        if self.replica is None:
            return 0.0
        return (self.replica.ready_at if self.replica.idle_since is None else self.replica.idle_since) or 0.0


def tenants_of(fleet: Fleet, settings: FleetSettings) -> list[Tenant]:
    tenants = [_of_claim(claim) for claim in fleet.claims if claim.waiting_since is None]
    for deployment in fleet.deployments:
        if deployment.replicas:
            tenants.extend(_of_deployment(deployment, fleet.now, settings))
    return tenants


def obstacle_for(tenant: Tenant, claimant: Claimant, now: float) -> str:
    """Why it does not make room for this one now; empty when it would."""
    return tenant.obstacle or relative_obstacle(tenant, claimant, now)


def relative_obstacle(tenant: Tenant, claimant: Claimant, now: float) -> str:
    """Of `obstacle_for` what depends on who asks."""
    if tenant.deployment is None:
        return "" if tenant.priority < claimant.priority and claimant.may_evict else "goes before what waits"
    if tenant.deployment.name == claimant.name:
        return "of the deployment that waits"
    if not claimant.may_evict:
        return "what waits evicts nobody"
    if tenant.priority > claimant.priority:
        return "goes before what waits"
    if claimant.is_urgent:
        return ""
    if tenant.is_busy:
        assert tenant.replica is not None
        return f"busy: {tenant.replica.num_in_flight} requests"
    # A swap is paid for when its victim's idleness and its claimant's wait exceed what both loads take. Of two that
    # are used in turn, neither is then loaded more often than twice what knowing the future would.
    idle_s = now - tenant.used_at
    if idle_s + claimant.waited_s < (tenant.deployment.load_s or 0.0) + (claimant.load_s or 0.0):
        return f"used {max(0.0, idle_s):.0f} s ago"
    return ""


def cost_of(tenant: Tenant) -> Cost:
    if tenant.passes_at is not None:
        return Cost(Ease.LATER, tenant.priority, tenant.passes_at)
    return Cost(Ease.BUSY if tenant.is_busy else Ease.IDLE, tenant.priority, tenant.used_at)


def label(deployment: DeploymentFact, replica: ReplicaFact) -> str:
    """Owner of its reservation in the ledger."""
    return f"{deployment.name}/replicas/{replica.index}"


def num_dispensable(deployment: DeploymentFact) -> int:
    """How many more than its minimum are ready."""
    num_ready = sum(replica.state is ReplicaState.READY and not replica.is_leaving for replica in deployment.replicas)
    return num_ready - deployment.min_replica_count


def _of_claim(claim: ClaimFact) -> Tenant:
    return Tenant(
        owner=claim.owner,
        device_ids=claim.device_ids,
        num_bytes=claim.demand.num_bytes,
        priority=claim.priority,
        is_leaving=claim.is_leaving,
        is_busy=False,
        obstacle="" if claim.priority is Priority.JOB else "lent until it is given back",
    )


def _of_deployment(deployment: DeploymentFact, now: float, settings: FleetSettings) -> Iterator[Tenant]:
    shared = ""
    if deployment.is_pinned:
        shared = "pinned"
    elif deployment.min_replica_count and num_dispensable(deployment) <= 0:
        shared = f"guaranteed: at least {deployment.min_replica_count} replicas"
    for replica in deployment.replicas:
        if replica.has_given_up or replica.state is ReplicaState.ASLEEP:
            continue
        own, passes_at = _residency(deployment, replica, now, settings)
        yield Tenant(
            owner=label(deployment, replica),
            device_ids=replica.device_ids,
            num_bytes=replica.reserved_bytes,
            priority=deployment.priority,
            is_leaving=replica.is_leaving,
            is_busy=replica.num_in_flight > 0,
            obstacle=shared or own,
            passes_at=None if shared else passes_at,
            deployment=deployment,
            replica=replica,
        )


class _Residency(NamedTuple):
    obstacle: str
    passes_at: float | None


def _residency(deployment: DeploymentFact, replica: ReplicaFact, now: float, settings: FleetSettings) -> _Residency:
    if replica.state is not ReplicaState.READY:
        return _Residency(replica.state.lower(), now + (deployment.load_s or 0.0) + settings.min_residency_s)
    ready_at = replica.ready_at if replica.ready_at is not None else now
    if now - ready_at < settings.min_residency_s:
        obstacle = f"resident for {max(0.0, now - ready_at):.0f} of {settings.min_residency_s:g} s"
        return _Residency(obstacle, ready_at + settings.min_residency_s)
    return _Residency("", None)
