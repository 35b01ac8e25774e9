"""Why something waits for memory, in numbers and in one sentence. Pure.

A sentence goes to the waiting one's account: it names nothing of other accounts, and holds no times, so that it stays
the same while nothing happens. Operators see every candidate by name.
"""

from collections.abc import Mapping, Sequence, Set

from appliance.config import GIB
from appliance.orchestrator.claimants import Claimant
from appliance.orchestrator.fleet import Candidate, Demand, Explanation, Fleet
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.placement import find_lack, suitable
from appliance.orchestrator.room import Room, Way
from appliance.orchestrator.tenants import Tenant, obstacle_for

NAMED_MAX = 3
"""Of those that could make room, in a sentence."""


def explain(
    fleet: Fleet,
    room: Room,
    claimant: Claimant,
    way: Way | None,
    free_bytes: Mapping[str, int],
    falling_asleep: Set[str],
    *,
    with_candidates: bool,
) -> Explanation:
    """`way`: what was promised to it; `free_bytes`: what was free when it asked, and promised to nobody;
    `falling_asleep`: owners that are put to sleep, not stopped."""
    demand = claimant.demands[-1]
    devices = suitable(fleet.devices, demand)
    free = {device.id: free_bytes[device.id] for device in devices}
    if lack := find_lack(fleet.devices, demand.accelerator_type, demand.accelerator_count):
        return Explanation(lack, demand.num_bytes, demand.accelerator_count, free)
    tenants = [tenant for tenant in room.tenants if not free.keys().isdisjoint(tenant.device_ids)]
    going = [
        tenant
        for tenant in tenants
        if way is not None and room.is_going(tenant.owner) and not set(way.device_ids).isdisjoint(tenant.device_ids)
    ]
    reason = _needs(demand, devices, free)
    if going:
        reason += "; " + ", ".join(_frees(claimant, each, each.owner in falling_asleep) for each in going[:NAMED_MAX])
    elif way is None:
        reason += f"; {_prospect(claimant, [tenant for tenant in tenants if not room.is_going(tenant.owner)])}"
    candidates = _candidates(fleet, room, claimant, way, tenants, free.keys()) if with_candidates else ()
    return Explanation(reason, demand.num_bytes, demand.accelerator_count, free, candidates)


def _candidates(
    fleet: Fleet, room: Room, claimant: Claimant, way: Way | None, tenants: Sequence[Tenant], device_ids: Set[str]
) -> tuple[Candidate, ...]:
    candidates = [
        Candidate(tenant.owner, tenant.device_ids, tenant.num_bytes, _obstacle(fleet, room, tenant, claimant, way))
        for tenant in tenants
    ]
    for device_id in sorted(device_ids):
        for owner, num_bytes in fleet.fixed_bytes.get(device_id, {}).items():
            candidates.append(Candidate(owner, (device_id,), num_bytes, "cannot be asked"))
    return tuple(candidates)


def _needs(demand: Demand, devices: Sequence[Device], free: Mapping[str, int]) -> str:
    kinds = " or ".join(sorted({device.accelerator_type for device in devices}))
    on = f"one {kinds}" if demand.accelerator_count == 1 else f"each of {demand.accelerator_count} {kinds}"
    amounts = ", ".join(f"{device_id} {num_bytes / GIB:.1f} GiB" for device_id, num_bytes in free.items())
    return f"needs {demand.num_bytes / GIB:.1f} GiB on {on}; free: {amounts}"


def _prospect(claimant: Claimant, tenants: Sequence[Tenant]) -> str:
    """Where nothing makes room at present."""
    if claimant.is_surge:
        return "a replica of the earlier revision makes room"
    if not claimant.may_evict:
        return "it waits for memory to become free, since it evicts nobody"
    later = [tenant for tenant in tenants if _may_go_later(tenant, claimant)]
    if not later:
        return "nothing there makes room for it"
    names = [f"{_name(claimant, tenant)} ({tenant.num_bytes / GIB:.1f} GiB)" for tenant in later[:NAMED_MAX]]
    more = f" and {len(later) - NAMED_MAX} more" if len(later) > NAMED_MAX else ""
    return f"may make room later: {', '.join(names)}{more}"


def _frees(claimant: Claimant, tenant: Tenant, is_falling_asleep: bool) -> str:
    name, size = _name(claimant, tenant), f"{tenant.num_bytes / GIB:.1f} GiB"
    if tenant.deployment is None:
        return f"{name} gives back {size}"
    return f"putting {name} to sleep frees {size}" if is_falling_asleep else f"stopping {name} frees {size}"


def _name(claimant: Claimant, tenant: Tenant) -> str:
    """A lease's or job's own sentence is read by operators, who may know every name."""
    if tenant.deployment is None:
        return "a job" if claimant.deployment is not None else tenant.owner
    if claimant.deployment is None:
        return tenant.deployment.name
    return name_for(claimant.name, tenant.deployment.name)


def name_for(reader: str, name: str) -> str:
    """A deployment's name as another one's account may read it."""
    return name if _account(reader) == _account(name) else "another account's deployment"


def _account(deployment_name: str) -> str:
    return deployment_name.partition("/deployments/")[0]


def _obstacle(fleet: Fleet, room: Room, tenant: Tenant, claimant: Claimant, way: Way | None) -> str:
    if room.is_going(tenant.owner):
        return "" if way is not None else "makes room for others that wait"
    return obstacle_for(tenant, claimant, fleet.now) or "not needed, or not enough"


def _may_go_later(tenant: Tenant, claimant: Claimant) -> bool:
    """Whether its obstacle passes with time."""
    deployment = tenant.deployment
    if deployment is None:
        return tenant.priority < claimant.priority
    is_spared = deployment.is_pinned or tenant.priority > claimant.priority or deployment.name == claimant.name
    return not is_spared and len(deployment.replicas) > deployment.min_replica_count
