"""One deployment's replicas as the supervisor keeps them, and what is said about them to others.

Data and questions only; whoever acts on it is the supervisor.
"""

from typing import NamedTuple

import msgspec

from appliance.domain import Deployment, DeploymentState, ReplicaState
from appliance.orchestrator.replica import Replica
from runtime.protocol import Heartbeat, LoadProgress

_STARTING_AGAIN = (ReplicaState.FAILED, ReplicaState.STARTING, ReplicaState.LOADING)


class ReplicaCounts(NamedTuple):
    """What runs of one deployment. One in DELETING is reported only when its last worker is gone, with zeros."""

    wanted: int
    ready: int
    starting: int
    """On their way to READY, those that wait after a crash included."""
    waiting: int
    """No device has room for them."""
    failed: int
    """Gave up; they stay down until the deployment changes."""


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """One replica for display; never to decide on."""

    index: int
    state: ReplicaState
    reason: str
    """Why its last worker ended unasked."""
    device_id: str
    reserved_bytes: int
    pid: int | None
    num_in_flight: int
    progress: LoadProgress | None
    heartbeat: Heartbeat | None
    log_tail: list[str]
    """Its worker's last words; for operators, since they may hold paths."""


class Outlook(NamedTuple):
    """What the router must know of a deployment at this moment."""

    ready: dict[int, Replica]
    has_failed: bool
    """All that is left of it gave up."""
    waiting_reason: str
    load_s: float | None
    """What a load of its model took of late."""


class Group:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        """As the last look showed it."""
        self.replicas: dict[int, Replica] = {}
        """By index. One that stops stays until it is gone, one that gave up until the deployment changes."""
        self.waiting_reason = ""
        self.reported: tuple[DeploymentState, ReplicaCounts, str] | None = None

    @property
    def desired(self) -> int:
        is_leaving = self.deployment.state in (DeploymentState.DELETING, DeploymentState.DELETED)
        return 0 if is_leaving else self.deployment.desired_replica_count

    @property
    def missing(self) -> list[int]:
        return [index for index in range(self.desired) if index not in self.replicas]

    def see(self, deployment: Deployment) -> None:
        """Take the newest row. Replicas that gave up may try again when what is asked of them changed."""
        if _specification(deployment) != _specification(self.deployment):
            self.replicas = {index: replica for index, replica in self.replicas.items() if not replica.has_given_up}
        self.deployment = deployment

    def lose_row(self) -> None:
        """The deployment is no more, but workers of it are."""
        self.deployment = msgspec.structs.replace(self.deployment, state=DeploymentState.DELETED)

    def counts(self) -> ReplicaCounts:
        wanted = [self.replicas[index] for index in range(self.desired) if index in self.replicas]
        ready = sum(replica.state is ReplicaState.READY for replica in wanted)
        failed = sum(replica.has_given_up for replica in wanted)
        return ReplicaCounts(self.desired, ready, len(wanted) - ready - failed, self.desired - len(wanted), failed)

    def message(self) -> str:
        """What keeps it from serving fully; empty when nothing does."""
        troubled = [
            f"replica {index} {'failed' if replica.has_given_up else 'starts again'}: {replica.reason}"
            for index, replica in sorted(self.replicas.items())
            if replica.reason and (replica.has_given_up or replica.state in _STARTING_AGAIN)
        ]
        return "; ".join([self.waiting_reason, *troubled] if self.waiting_reason else troubled)

    def outlook(self, load_s: float | None) -> Outlook:
        ready = {index: replica for index, replica in self.replicas.items() if replica.is_ready}
        has_failed = bool(self.replicas) and all(replica.has_given_up for replica in self.replicas.values())
        return Outlook(ready, has_failed, self.waiting_reason, load_s)

    def views(self) -> list[ReplicaView]:
        return [_view(replica) for _, replica in sorted(self.replicas.items())]


def _specification(deployment: Deployment) -> tuple[object, ...]:
    """All that a replica's fate may depend on; status and times are not among it."""
    return (
        deployment.base_model,
        deployment.desired_replica_count,
        deployment.accelerator_type,
        deployment.accelerator_count,
        deployment.precision,
        deployment.max_context_length,
        deployment.draft_model,
        deployment.draft_token_count,
        deployment.ngram_speculation_length,
    )


def _view(replica: Replica) -> ReplicaView:
    vitals = replica.client.vitals if replica.client is not None else None
    return ReplicaView(
        index=replica.plan.index,
        state=replica.state,
        reason=replica.reason,
        device_id=replica.plan.device.id,
        reserved_bytes=replica.plan.reserved_bytes,
        pid=replica.worker.pid if replica.worker is not None else None,
        num_in_flight=replica.load,
        progress=vitals.progress if vitals is not None else None,
        heartbeat=vitals.heartbeat if vitals is not None else None,
        log_tail=list(replica.worker.log.lines) if replica.worker is not None else [],
    )
