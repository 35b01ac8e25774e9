"""From the supervisor's objects to the facts that a plan is made of. Reads them in one breath and changes nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from appliance.domain import ReplicaState
from appliance.orchestrator.claims import Claim
from appliance.orchestrator.fleet import ClaimFact, DeploymentFact, Fleet, Priority, ReplicaFact
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.group import Group
from appliance.orchestrator.ledger import FOREIGN_OWNER, UNRETURNED_OWNER, Ledger
from appliance.orchestrator.replica import Replica
from appliance.orchestrator.requirements import Requirement
from appliance.orchestrator.reserving import Holders, closed_to, restrict
from appliance.orchestrator.schedules import guaranteed_count

ALL_HELD = "every device of this box that suits it is reserved for another account"


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
    holders: Holders,
) -> Fleet:
    """`yielding_bytes`: held on each device by what gives way at once (spare workers, weights kept for later)."""
    free_bytes = {device_id: free + yielding_bytes.get(device_id, 0) for device_id, free in ledger.free().items()}
    return Fleet(
        now=now,
        devices=devices,
        free_bytes=free_bytes,
        host_free_bytes=0 if ledger.is_host_a_device else ledger.host_free_bytes() + host_yielding_bytes,
        deployments=[_see_deployment(want, now, devices, holders) for want in wants],
        claims=[fact for claim in claims for fact in _see_claim(claim, devices, holders)],
        fixed_bytes={
            device.id: {
                owner: held
                for owner, held in ledger.by_owner(device.id).items()
                if owner in (FOREIGN_OWNER, UNRETURNED_OWNER)
            }
            for device in devices
        },
    )


def _see_claim(claim: Claim, devices: Sequence[Device], holders: Holders) -> Iterator[ClaimFact]:
    """Nothing of one that waits while all devices that suit it are held for others."""
    fact = claim.fact()
    if fact.waiting_since is None:
        yield fact
    elif demands := restrict([fact.demand], devices, claim.account_id, holders):
        yield msgspec.structs.replace(fact, demand=demands[-1])


def _see_deployment(want: Want, now: float, devices: Sequence[Device], holders: Holders) -> DeploymentFact:
    group, requirement = want.group, want.requirement
    deployment = group.deployment
    is_used = want.num_waiting > 0 or any(replica.load for replica in group.replicas.values())
    closed = closed_to(deployment.account_id, holders)
    demands = requirement.demands if requirement is not None else ()
    open_demands = restrict(demands, devices, deployment.account_id, holders)
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
        demands=open_demands,
        blocked_reason=group.blocked_reason or (ALL_HELD if demands and not open_demands else ""),
        waiting_since=group.wanted_since,
        num_waiting=want.num_waiting,
        load_s=group.footprint.load_s if group.footprint is not None else None,
        is_leaving=group.is_leaving,
        replicas=tuple(_see_replica(replica, closed) for _, replica in sorted(group.replicas.items())),
    )


def _see_replica(replica: Replica, closed: frozenset[str]) -> ReplicaFact:
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
        is_displaced=not closed.isdisjoint(plan.device_ids),
        num_in_flight=replica.load,
        ready_at=replica.ready_at,
        idle_since=replica.idle_since,
    )
