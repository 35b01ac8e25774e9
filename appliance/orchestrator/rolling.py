"""What one deployment lacks and what it has too much of, whether there is room or not. Pure.

A change of revision replaces its replicas one by one, and so does a reservation of their devices for others: a new one
beside the old ones where memory is free, else one old one goes first. A new one that gives up ends that: the old ones
keep serving.
"""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.domain import ReplicaState
from appliance.orchestrator.fleet import DeploymentFact, ReplicaFact

_PROGRESS = {ReplicaState.STARTING: 1, ReplicaState.LOADING: 2, ReplicaState.READY: 3}
"""How far on its way; others have crashed, or are about to be told."""
DISPLACED = "its devices are reserved for another account"


class Upkeep(NamedTuple):
    """What is to be done for one deployment."""

    ending: tuple[tuple[ReplicaFact, str], ...] = ()
    """To be stopped, and why."""
    resting: tuple[ReplicaFact, ...] = ()
    """Not desired now: to be put to sleep, or stopped."""
    num_missing: int = 0
    sleeping: tuple[ReplicaFact, ...] = ()
    """May be woken in place of starting those that are missing."""
    is_surge: bool = False
    """The missing one is beyond what is desired for now: it takes what is free and nobody's place."""
    in_exchange: ReplicaFact | None = None
    """If nothing is free for a surge, this old one goes first."""


SETTLED = Upkeep()


def look_after(deployment: DeploymentFact) -> Upkeep:
    if not deployment.replicas:
        return Upkeep(num_missing=deployment.desired) if deployment.desired else SETTLED
    if _is_settled(deployment):
        return SETTLED
    staying = [replica for replica in deployment.replicas if not replica.is_leaving]
    if deployment.desired == 0:
        return _send_to_rest(deployment, staying)
    outdated = [replica for replica in staying if _is_outdated(deployment, replica)]
    present = [replica for replica in staying if not _is_outdated(deployment, replica)]
    sleeping = [replica for replica in present if replica.state is ReplicaState.ASLEEP]
    awake = [replica for replica in present if replica.state is not ReplicaState.ASLEEP]

    excess = _least_missed(awake, len(awake) - deployment.desired)
    ending = [(replica, f"{deployment.desired} replicas are desired") for replica in excess]
    awake = [replica for replica in awake if replica not in excess]
    serving = [replica for replica in outdated if replica.state is ReplicaState.READY]
    num_ready = sum(replica.state is ReplicaState.READY for replica in awake)
    replaced = _least_missed(serving, len(serving) - max(0, deployment.desired - num_ready))
    kept = [replica for replica in serving if replica not in replaced]
    ending += [(replica, outdated_reason(deployment, replica)) for replica in outdated if replica not in kept]
    if kept:
        ending += [(replica, "not needed while replicas are replaced") for replica in sleeping]
        return _roll(deployment, awake, kept, ending)

    num_missing = max(0, deployment.desired - len(awake) - _num_falling_asleep(deployment))
    spare = sleeping[max(0, deployment.desired - len(awake)) :]
    ending += [(replica, "others of its deployment are awake") for replica in spare]
    return Upkeep(tuple(ending), num_missing=num_missing, sleeping=tuple(sleeping[:num_missing]))


def _is_settled(deployment: DeploymentFact) -> bool:
    """The common case, told quickly: as many as desired, all of this revision and awake, none going."""
    return len(deployment.replicas) == deployment.desired and all(
        not _is_outdated(deployment, replica) and not replica.is_leaving and replica.state is not ReplicaState.ASLEEP
        for replica in deployment.replicas
    )


def _send_to_rest(deployment: DeploymentFact, staying: list[ReplicaFact]) -> Upkeep:
    """Nothing is desired: one may sleep, so that the next request is answered soon."""
    if deployment.is_leaving:
        return Upkeep(tuple((replica, "its deployment is being deleted") for replica in staying))
    fit = [r for r in staying if not _is_outdated(deployment, r) and not r.has_given_up]
    sleeping = [replica for replica in fit if replica.state is ReplicaState.ASLEEP]
    ready = [replica for replica in fit if replica.state is ReplicaState.READY]
    if sleeping or _num_falling_asleep(deployment):
        keeps: list[ReplicaFact] = sleeping[:1]
        resting: list[ReplicaFact] = []
    else:
        keeps, resting = [], ready[:1]
    ending = [(replica, "no replica is desired") for replica in staying if replica not in keeps + resting]
    return Upkeep(tuple(ending), tuple(resting))


def _roll(
    deployment: DeploymentFact, awake: list[ReplicaFact], kept: list[ReplicaFact], ending: list[tuple[ReplicaFact, str]]
) -> Upkeep:
    """One new replica at a time, while those of an earlier revision serve."""
    is_under_way = any(replica.state is not ReplicaState.READY for replica in awake)  # or has given up
    if is_under_way or len(awake) >= deployment.desired:
        return Upkeep(tuple(ending))
    if len(awake) + len(kept) < deployment.desired:
        return Upkeep(tuple(ending), num_missing=1)
    is_one_going = any(replica.is_leaving for replica in deployment.replicas)
    in_exchange = None if is_one_going else _least_missed(kept, 1)[0]
    return Upkeep(tuple(ending), num_missing=1, is_surge=True, in_exchange=in_exchange)


def _least_missed(replicas: Sequence[ReplicaFact], count: int) -> list[ReplicaFact]:
    """Those that have given up, then those that do not serve yet, then the least busy; of equals the last."""
    ranked = sorted(
        replicas,
        key=lambda replica: (
            not replica.has_given_up,
            _PROGRESS.get(replica.state, 0),
            replica.num_in_flight,
            -replica.index,
        ),
    )
    return ranked[: max(0, count)]


def _num_falling_asleep(deployment: DeploymentFact) -> int:
    """Soon asleep, then soon awake: quicker than starting others. One that is busy may take its time."""
    return sum(
        replica.is_falling_asleep and not _is_outdated(deployment, replica) and not replica.num_in_flight
        for replica in deployment.replicas
    )


def _is_outdated(deployment: DeploymentFact, replica: ReplicaFact) -> bool:
    """A replica of this revision elsewhere is to take its place."""
    return replica.revision != deployment.revision or replica.is_displaced


def outdated_reason(deployment: DeploymentFact, replica: ReplicaFact) -> str:
    if replica.revision == deployment.revision:
        return DISPLACED
    return f"replaced by revision {deployment.revision}"
