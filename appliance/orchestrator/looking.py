"""From the supervisor's objects to the facts that a plan is made of. Reads them in one breath and changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from appliance.domain import ReplicaState
from appliance.orchestrator.claims import Claim
from appliance.orchestrator.fleet import DeploymentFact, Fleet, Priority, ReplicaFact
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.group import Group
from appliance.orchestrator.ledger import FOREIGN_OWNER, UNRETURNED_OWNER, Ledger
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.requirements import Requirement
from appliance.orchestrator.schedules import guaranteed_count


class Want(NamedTuple):
    """One deployment, with what is known of its needs and of who waits for it."""

    group: Group
    requirement: Requirement | None
    """None when it needs none now, or is blocked."""
    num_waiting: int


def see_fleet(
    now: float,
    devices: Sequence[Device],
    ledger: Ledger,
    wants: Iterable[Want],
    claims: Iterable[Claim],
    yielding_bytes: Mapping[str, int],
    host_yielding_bytes: int,
) -> Fleet:
    """`yielding_bytes`: held on each device by what gives way at once (spare workers, weights kept for later)."""
    free_bytes = {device_id: free + yielding_bytes.get(device_id, 0) for device_id, free in ledger.free().items()}
    return Fleet(
        now=now,
        devices=devices,
        free_bytes=free_bytes,
        host_free_bytes=0 if ledger.is_host_a_device else ledger.host_free_bytes() + host_yielding_bytes,
        deployments=[_see_deployment(want, now) for want in wants],
        claims=[claim.fact() for claim in claims],
        fixed_bytes={
            device.id: {
                owner: held
                for owner, held in ledger.by_owner(device.id).items()
                if owner in (FOREIGN_OWNER, UNRETURNED_OWNER)
            }
            for device in devices
        },
    )


def _see_deployment(want: Want, now: float) -> DeploymentFact:
    group, requirement = want.group, want.requirement
    deployment = group.deployment
    is_used = want.num_waiting > 0 or any(replica.load for replica in group.replicas.values())
    last_used_at = deployment.created_at if deployment.last_used_at is None else deployment.last_used_at
    return DeploymentFact(
        name=deployment.name,
        desired=group.desired,
        min_replica_count=guaranteed_count(deployment, now),
        revision=deployment.revision,
        priority=Priority.SERVERLESS if deployment.is_serverless else Priority.DEPLOYMENT,
        is_pinned=deployment.is_pinned,
        may_evict=deployment.may_evict,
        created_at=deployment.created_at,
        last_used_at=now if is_used else last_used_at,
        demands=requirement.demands if requirement is not None else (),
        blocked_reason=group.blocked_reason,
        waiting_since=group.wanted_since,
        num_waiting=want.num_waiting,
        load_s=group.footprint.load_s if group.footprint is not None else None,
        is_leaving=group.is_leaving,
        replicas=tuple(_see_replica(replica) for _, replica in sorted(group.replicas.items())),
    )


def _see_replica(replica: Replica) -> ReplicaFact:
    plan, state = replica.plan, replica.state
    if state is ReplicaState.STOPPED and not replica.is_leaving:
        state = ReplicaState.STARTING  # it was made a moment ago
    elif state is ReplicaState.ASLEEP and replica.holds_devices:
        state = ReplicaState.LOADING  # it was woken a moment ago
    is_asleep = state is ReplicaState.ASLEEP
    return ReplicaFact(
        index=plan.index,
        revision=plan.revision,
        state=state,
        device_ids=tuple(plan.device_ids),
        reserved_bytes=plan.reserved_bytes - replica.held_bytes if is_asleep else replica.held_bytes,
        host_bytes=plan.host_bytes if replica.holds_devices else replica.host_bytes,
        is_leaving=replica.is_leaving,
        is_falling_asleep=replica.is_falling_asleep,
        has_given_up=replica.has_given_up,
        num_in_flight=replica.load,
        ready_at=replica.ready_at,
        idle_since=replica.idle_since,
    )
