"""Who waits for memory, in which order they get it, and whose wait is nearly over. Pure.

Priority goes first, then a deployment that has nothing before one that wants more, then the longest wait.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import ClaimFact, Demand, DeploymentFact, Priority, ReplicaFact
from appliance.orchestrator.rolling import Upkeep

UNKNOWN_LOAD_S = 15.0
"""Expected of a model that was never loaded."""
DRAIN_SHARE = 0.25
"""Of the maximum wait: what busy replicas are expected to need to finish."""


class Claimant(NamedTuple):
    name: str
    """Of the deployment, or owner of the claim."""
    priority: Priority
    demands: tuple[Demand, ...]
    """Best first; when it has a sleeper, waking it is the first."""
    may_evict: bool
    waiting_since: float | None
    waited_s: float
    """0 when nobody waits."""
    created_at: float
    load_s: float | None
    has_more: bool = False
    """Others of its deployment are awake, or are planned before it."""
    is_surge: bool = False
    in_exchange: ReplicaFact | None = None
    """See `rolling.py`."""
    sleeper: ReplicaFact | None = None
    """Whom to wake rather than to start another."""
    deployment: DeploymentFact | None = None
    """None: a lease or a job."""
    is_urgent: bool = False
    """Busy ones must make room now, or it waits too long."""
    is_soon_urgent: bool = False
    """Within the minimum residency of those that settle now."""


def of_deployment(deployment: DeploymentFact, upkeep: Upkeep, now: float) -> list[Claimant]:
    """One for each replica that is missing."""
    has_any = any(
        not replica.is_leaving and not replica.has_given_up and replica.state is not ReplicaState.ASLEEP
        for replica in deployment.replicas
    )
    claimants = []
    for number in range(upkeep.num_missing):
        sleeper = upkeep.sleeping[number] if number < len(upkeep.sleeping) else None
        demands = deployment.demands if sleeper is None else (_waking(sleeper), *deployment.demands)
        claimant = Claimant(
            name=deployment.name,
            priority=deployment.priority,
            demands=demands,
            may_evict=deployment.may_evict and not upkeep.is_surge,
            waiting_since=deployment.waiting_since,
            waited_s=_waited_s(deployment.waiting_since, now),
            created_at=deployment.created_at,
            load_s=deployment.load_s,
            has_more=has_any or number > 0,
            is_surge=upkeep.is_surge,
            in_exchange=upkeep.in_exchange,
            sleeper=sleeper,
            deployment=deployment,
        )
        claimants.append(claimant)
    return claimants


def of_claim(claim: ClaimFact, now: float) -> Claimant:
    return Claimant(
        name=claim.owner,
        priority=claim.priority,
        demands=(claim.demand,),
        may_evict=claim.may_evict,
        waiting_since=claim.waiting_since,
        waited_s=_waited_s(claim.waiting_since, now),
        created_at=claim.waiting_since or now,
        load_s=0.0,
    )


def in_order(claimants: Sequence[Claimant]) -> list[Claimant]:
    return sorted(
        claimants,
        key=lambda claimant: (
            -claimant.priority,
            claimant.has_more,
            math.inf if claimant.waiting_since is None else claimant.waiting_since,
            claimant.created_at,
            claimant.name,
        ),
    )


def find_urgent(waiters: Sequence[Claimant], num_places: int, settings: FleetSettings, now: float) -> set[str]:
    """Names of those, of waiters in order, for whom busy replicas must begin to drain now.

    What is taken for one stays with it for `min_residency_s`. When more wait than could be served at once, they take
    turns, so that the first ones' must begin early enough for the last one's wait to end in time. One that stands lower
    hurries nobody: it may wait for what it cannot have.
    """
    turn_s = settings.min_residency_s + max((_load_s(waiter) for waiter in waiters), default=0.0)
    urgent: set[str] = set()
    latest, behind = math.inf, None
    for number, waiter in reversed(list(enumerate(waiters))):
        assert waiter.waiting_since is not None
        if behind is not waiter.priority:
            latest, behind = math.inf, waiter.priority
        turn = number // max(1, num_places)
        spent_s = _load_s(waiter) + DRAIN_SHARE * settings.max_wait_s
        latest = min(latest, waiter.waiting_since + settings.max_wait_s - spent_s - turn * turn_s)
        if now >= latest + turn * turn_s:
            urgent.add(waiter.name)
    return urgent


def _load_s(claimant: Claimant) -> float:
    return UNKNOWN_LOAD_S if claimant.load_s is None else claimant.load_s


def _waited_s(waiting_since: float | None, now: float) -> float:
    return 0.0 if waiting_since is None else max(0.0, now - waiting_since)


def _waking(sleeper: ReplicaFact) -> Demand:
    return Demand(sleeper.reserved_bytes, None, len(sleeper.device_ids), sleeper.device_ids)
