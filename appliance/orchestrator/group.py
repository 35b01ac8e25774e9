"""One deployment's replicas as the supervisor keeps them, and what is said about them to others.

Data and questions only; whoever acts on it is the supervisor.
"""

from typing import NamedTuple

import msgspec

from appliance.domain import Deployment, DeploymentState, Footprint, ReplicaState
from appliance.orchestrator.fleet import Explanation
from appliance.orchestrator.health import CrashRecord
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.views import ReplicaView as ReplicaView  # what displays ask for
from appliance.orchestrator.views import view_replica

TERMINATION_LINES = 20
TERMINATION_LENGTH_MAX = 4000
_LOADING = (ReplicaState.STARTING, ReplicaState.LOADING)
_STARTING_AGAIN = (ReplicaState.FAILED, *_LOADING)


class ReplicaCounts(NamedTuple):
    """What runs of one deployment. One in DELETING is reported only when its last worker is gone, with zeros."""

    wanted: int
    ready: int
    """One more than wanted for a moment, while outdated ones are replaced."""
    starting: int
    """On their way to READY, those that wait after a crash included."""
    waiting: int
    """No device has room for them."""
    failed: int
    """Gave up; they stay down until the deployment changes."""
    outdated: int = 0
    """Of those that run: serve an older revision of the deployment, or are on devices held for others."""
    asleep: int = 0


class ColdStart(NamedTuple):
    """How far the replica is that is the next to become ready."""

    stage: str
    fraction: float
    eta_s: float | None
    """Seconds until it is ready, by what loads took of late; None: there was none."""


class Outlook(NamedTuple):
    """What the router must know of a deployment at this moment."""

    ready: dict[int, Replica]
    has_failed: bool
    """All that is left of it gave up."""
    waiting_reason: str
    load_s: float | None
    """What a load of its model took of late."""
    cold_start: ColdStart | None = None
    """None while no replica is on its way."""
    is_wanted: bool = False
    """Whether any replica is desired of it; whoever waits for one that is not must ask for it."""


class Group:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        """As the last look showed it."""
        self.replicas: dict[int, Replica] = {}
        """By index. One that stops stays until it is gone, one that gave up until the deployment changes."""
        self.closed_device_ids: frozenset[str] = frozenset()
        """Held for other accounts by now."""
        self.crashes: dict[int, CrashRecord] = {}
        """By index; they outlive a replica that is replaced because its device is not well."""
        self.footprint: Footprint | None = None
        """What is known of loads of it, when something is."""
        self.blocked_reason = ""
        """Why no replica can be started whatever is free."""
        self.explanation: Explanation | None = None
        """Why the last plan let it wait."""
        self.wanted_since: float | None = None
        """Since when a replica is desired and none is ready."""
        self.reported: tuple[DeploymentState, ReplicaCounts, str] | None = None

    @property
    def is_leaving(self) -> bool:
        return self.deployment.state in (DeploymentState.DELETING, DeploymentState.DELETED)

    @property
    def desired(self) -> int:
        return 0 if self.is_leaving else self.deployment.desired_replica_count

    @property
    def staying(self) -> list[Replica]:
        """All but those that are on their way out, or to sleep; those that gave up are among them."""
        return [replica for _, replica in sorted(self.replicas.items()) if not replica.is_leaving]

    @property
    def needs_room(self) -> bool:
        """Whether a replica is to be started or woken, or one to be replaced: by a newer revision, or elsewhere."""
        running = [replica for replica in self.staying if not replica.is_asleep]
        return len(running) < self.desired or any(self._is_outdated(replica) for replica in running)

    @property
    def has_failed(self) -> bool:
        """All that is left of it gave up."""
        return bool(self.replicas) and all(replica.has_given_up for replica in self.replicas.values())

    @property
    def waiting_reason(self) -> str:
        if self.explanation is not None:
            return self.explanation.reason
        return self.blocked_reason

    def see(self, deployment: Deployment) -> None:
        """Take the newest row. Replicas that gave up may try again when anybody asked anything of the deployment."""
        if _request(deployment) != _request(self.deployment):
            self.replicas = {index: replica for index, replica in self.replicas.items() if not replica.has_given_up}
            self.crashes.clear()
        self.deployment = deployment

    def lose_row(self) -> None:
        """The deployment is no more, but workers of it are."""
        self.deployment = msgspec.structs.replace(self.deployment, state=DeploymentState.DELETED)

    def note_want(self, now: float) -> None:
        """Keep `wanted_since` true; it survives the callers that leave."""
        if not self.desired or self.has_failed or any(replica.is_ready for replica in self.replicas.values()):
            self.wanted_since = None
        elif self.wanted_since is None:
            self.wanted_since = now

    def counts(self) -> ReplicaCounts:
        if not self.desired and not self.replicas:
            return ReplicaCounts(0, 0, 0, 0, 0)
        staying = self.staying
        ready = sum(replica.state is ReplicaState.READY for replica in staying)
        asleep = sum(replica.is_asleep for replica in staying)
        failed = sum(replica.has_given_up for replica in staying)
        starting = len(staying) - ready - asleep - failed
        waiting = max(0, self.desired - ready - starting - failed)
        outdated = sum(self._is_outdated(replica) for replica in staying)
        return ReplicaCounts(self.desired, ready, starting, waiting, failed, outdated, asleep)

    def message(self) -> str:
        """What keeps it from serving fully; empty when nothing does."""
        if not self.replicas:
            return self.waiting_reason
        troubled = [
            f"replica {index} {'failed' if replica.has_given_up else 'starts again'}: {replica.reason}"
            for index, replica in sorted(self.replicas.items())
            if replica.reason and (replica.has_given_up or replica.state in _STARTING_AGAIN)
        ]
        return "; ".join([self.waiting_reason, *troubled] if self.waiting_reason else troubled)

    def termination_message(self) -> str:
        """The last words of a worker whose replica gave up; empty when none did."""
        for _, replica in sorted(self.replicas.items()):
            if replica.has_given_up:
                lines = [*replica.last_words[-TERMINATION_LINES:], replica.reason]
                return "\n".join(lines)[-TERMINATION_LENGTH_MAX:]
        return ""

    def outlook(self, now: float) -> Outlook:
        ready = {index: replica for index, replica in self.replicas.items() if replica.is_ready}
        return Outlook(
            ready,
            self.has_failed,
            self.waiting_reason,
            self.footprint.load_s if self.footprint is not None else None,
            cold_start=None if ready else self._cold_start(now),
            is_wanted=self.desired > 0,
        )

    def views(self) -> list[ReplicaView]:
        return [view_replica(replica) for _, replica in sorted(self.replicas.items())]

    def _is_outdated(self, replica: Replica) -> bool:
        is_displaced = not self.closed_device_ids.isdisjoint(replica.plan.device_ids)
        return (replica.plan.revision != self.deployment.revision or is_displaced) and not replica.has_given_up

    def _cold_start(self, now: float) -> ColdStart | None:
        """Of the replica that is furthest."""
        starts = [
            self._start_of(replica, now)
            for replica in self.staying
            if replica.state in _LOADING and not self._is_outdated(replica)
        ]
        return max(starts, key=lambda start: start.fraction, default=None)

    def _start_of(self, replica: Replica, now: float) -> ColdStart:
        progress = replica.client.vitals.progress if replica.client is not None else None
        stage, fraction = (progress.stage, progress.fraction) if progress is not None else ("starting", 0.0)
        elapsed_s = now - (replica.began_at if replica.began_at is not None else now)
        return ColdStart(stage, fraction, _estimate(self._load_s(replica), elapsed_s, fraction))

    def _load_s(self, replica: Replica) -> float | None:
        """What its load should take, from a spare worker or a new process."""
        if self.footprint is None or replica.measurement is not None:  # one that wakes up is quicker than any load
            return None
        is_warm = replica.is_warm and self.footprint.warm_load_s is not None
        return self.footprint.warm_load_s if is_warm else self.footprint.load_s


def _estimate(load_s: float | None, elapsed_s: float, fraction: float) -> float | None:
    """What is left, by earlier loads; for one that takes longer, or was never seen, by its own pace."""
    if load_s is not None and elapsed_s < load_s:
        return load_s - elapsed_s
    return elapsed_s / fraction - elapsed_s if fraction > 0.0 else None


def _request(deployment: Deployment) -> tuple[object, ...]:
    """All that tells of somebody's wish; status is not among it."""
    return (deployment.updated_at, deployment.revision, deployment.desired_replica_count)
