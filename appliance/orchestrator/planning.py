"""What to do about the fleet now: replicas to start, wake, stop and put to sleep, claims to grant and ask back. Pure.

In this order: what is not desired goes; then those that lack something, the most important first, take what is free, or
what is promised to them by others that make room, or wait with a reason. It reserves no more than is free at this
moment: what comes back is given away by a later plan, when it is back.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from appliance.config import FleetSettings
from appliance.domain import ReplicaState
from appliance.orchestrator.claimants import Claimant, find_urgent, in_order, of_claim, of_deployment
from appliance.orchestrator.explaining import explain, name_for
from appliance.orchestrator.fleet import (
    Action,
    DeploymentFact,
    Evict,
    Explanation,
    Fleet,
    FleetPlan,
    Grant,
    Priority,
    ReplicaFact,
    Sleep,
    Start,
    Stop,
    Wake,
    Yield,
)
from appliance.orchestrator.placement import Placement
from appliance.orchestrator.resting import HostRoom
from appliance.orchestrator.rolling import DISPLACED, SETTLED, Upkeep, look_after, outdated_reason
from appliance.orchestrator.room import Room, Way
from appliance.orchestrator.tenants import Tenant, label, num_dispensable

NOTHING_TO_DO = FleetPlan((), {})


def plan_fleet(fleet: Fleet, settings: FleetSettings, explained: str = "") -> FleetPlan:
    """`explained` names the waiting one whose explanation lists all that could make room for it."""
    upkeeps = [(each, upkeep) for each in fleet.deployments if (upkeep := look_after(each)) is not SETTLED]
    is_somebody_waiting = any(claim.waiting_since is not None for claim in fleet.claims)
    if not upkeeps and not is_somebody_waiting and fleet.host_free_bytes >= 0:
        return NOTHING_TO_DO
    return _Planner(fleet, settings, explained).plan(upkeeps)


class _Planner:
    def __init__(self, fleet: Fleet, settings: FleetSettings, explained: str) -> None:
        self._fleet = fleet
        self._settings = settings
        self._explained = explained
        self._room = Room(fleet, settings)
        self._host = HostRoom(fleet)
        self._going: list[Action] = []
        """What gives memory back."""
        self._coming: list[Action] = []
        self._waiting: dict[str, Explanation] = {}
        self._evicted: dict[str, str] = {}
        """Why, by deployment."""
        self._falling_asleep = {
            label(deployment, replica)
            for deployment in fleet.deployments
            for replica in deployment.replicas
            if replica.is_falling_asleep
        }
        self._started: dict[str, set[int]] = defaultdict(set)

    def plan(self, upkeeps: list[tuple[DeploymentFact, Upkeep]]) -> FleetPlan:
        claimants: list[Claimant] = []
        for deployment, upkeep in upkeeps:
            drain_s = self._settings.replica_drain_s if deployment.is_leaving else None
            for replica, reason in upkeep.ending:
                self._stop(deployment, replica, drain_s, reason)
            if deployment.blocked_reason:
                self._stop_displaced(deployment, upkeep)
                if upkeep.num_missing:
                    self._waiting[deployment.name] = Explanation(deployment.blocked_reason, 0, 0, {})
                continue
            claimants += of_deployment(deployment, upkeep, self._fleet.now)
        waiting_claims = [claim for claim in self._fleet.claims if claim.waiting_since is not None]
        claimants += [of_claim(claim, self._fleet.now) for claim in waiting_claims]
        for claimant in claimants:
            if claimant.sleeper is not None:
                self._host.forget(claimant.sleeper)  # it is to be woken, now or when there is room
        for deployment, upkeep in upkeeps:
            for replica in upkeep.resting:
                self._rest(deployment, replica, "no replica is desired")
        for claimant in self._with_urgency(in_order(claimants)):
            self._serve(claimant)
        self._going += self._host.repay()
        return FleetPlan((*self._evictions(), *self._going, *self._coming), self._waiting)

    # ---- what is not desired

    def _stop(self, deployment: DeploymentFact, replica: ReplicaFact, drain_s: float | None, reason: str) -> None:
        self._going.append(Stop(deployment.name, replica.index, drain_s, reason))
        self._host.note_stopped(replica)
        self._room.note_leaving(label(deployment, replica))

    def _stop_displaced(self, deployment: DeploymentFact, upkeep: Upkeep) -> None:
        """There is nowhere else for it: nobody takes their place."""
        ending = [replica for replica, _ in upkeep.ending]
        for replica in deployment.replicas:
            if replica.is_displaced and not replica.is_leaving and replica not in ending:
                self._stop(deployment, replica, None, DISPLACED)

    def _rest(self, deployment: DeploymentFact, replica: ReplicaFact, reason: str) -> bool:
        """Put it to sleep or stop it; False: it stays until there is host memory for its sleep."""
        if self._host.can_sleep(replica):
            if self._host.take(replica):
                self._going.append(Sleep(deployment.name, replica.index, reason))
                self._falling_asleep.add(label(deployment, replica))
                self._room.note_leaving(label(deployment, replica))
                return True
            stops = self._host.make_room(deployment, replica)
            if stops is not None:
                self._going += stops
                return False
        self._stop(deployment, replica, None, reason)
        return True

    # ---- who lacks something

    def _with_urgency(self, claimants: list[Claimant]) -> Sequence[Claimant]:
        waiters = [each for each in claimants if self._waits_for_room(each)]
        if not waiters:
            return claimants
        num_places = sum(
            max(0, num_dispensable(deployment))
            for deployment in self._fleet.deployments
            if not deployment.is_pinned and deployment.replicas
        )
        now, settings = self._fleet.now, self._settings
        urgent = find_urgent(waiters, num_places, settings, now)
        soon = find_urgent(waiters, num_places, settings, now + settings.min_residency_s)
        return [
            each if each.has_more else each._replace(is_urgent=each.name in urgent, is_soon_urgent=each.name in soon)
            for each in claimants
        ]

    def _waits_for_room(self, claimant: Claimant) -> bool:
        if claimant.waiting_since is None or claimant.has_more or not claimant.may_evict:
            return False
        return not any(self._room.place(demand) for demand in claimant.demands)

    def _serve(self, claimant: Claimant) -> None:
        if claimant.name in self._waiting:
            return  # an earlier replica of it waits already
        for number, demand in enumerate(claimant.demands):
            placement = self._room.place(demand)
            if placement is not None:
                self._room.take(placement)
                self._reserve(claimant, placement, is_waking=number == 0 and claimant.sleeper is not None)
                return
        free_bytes = dict(self._room.free)
        way = None
        deployment, outdated = claimant.deployment, claimant.in_exchange
        if outdated is not None and deployment is not None:
            if not self._room.is_going(label(deployment, outdated)):  # it may have made room for another already
                self._stop(deployment, outdated, None, outdated_reason(deployment, outdated))
        elif not claimant.is_surge:
            way = self._make_room(claimant)
        self._waiting[claimant.name] = explain(
            self._fleet,
            self._room,
            claimant,
            way,
            free_bytes,
            self._falling_asleep,
            with_candidates=claimant.name == self._explained,
        )

    def _reserve(self, claimant: Claimant, placement: Placement, *, is_waking: bool) -> None:
        deployment, sleeper = claimant.deployment, claimant.sleeper
        if deployment is None:
            self._coming.append(Grant(claimant.name, placement.device_ids, placement.num_bytes))
        elif is_waking and sleeper is not None:
            self._coming.append(Wake(deployment.name, sleeper.index))
        else:
            index = self._free_index(deployment)
            self._coming.append(Start(deployment.name, index, placement.device_ids, placement.num_bytes))

    def _free_index(self, deployment: DeploymentFact) -> int:
        taken = self._started[deployment.name]
        taken.update(replica.index for replica in deployment.replicas)
        index = next(index for index in range(len(taken) + 1) if index not in taken)
        taken.add(index)
        return index

    # ---- who makes room

    def _make_room(self, claimant: Claimant) -> Way | None:
        way = self._room.find_way(claimant)
        if way is None:
            if claimant.is_soon_urgent:
                self._room.keep_for(claimant)
            return None
        for tenant in self._room.promise(way):
            if tenant.deployment is None:
                self._going.append(Yield(tenant.owner, f"{_kind(claimant)} needs the memory"))
            else:
                self._evict(claimant, tenant)
        return way

    def _evict(self, claimant: Claimant, tenant: Tenant) -> None:
        deployment, replica = tenant.deployment, tenant.replica
        assert deployment is not None
        assert replica is not None
        reason = f"made room for {self._beneficiary(claimant, deployment)}"
        if self._is_last_awake(deployment):
            if not self._rest(deployment, replica, reason):
                return  # it leaves when it can sleep; nobody else gets what it was promised for
        else:
            self._stop(deployment, replica, None, reason)
        self._evicted[deployment.name] = reason

    def _is_last_awake(self, deployment: DeploymentFact) -> bool:
        """And none sleeps already, or is about to."""
        return not any(
            not replica.has_given_up
            and (
                replica.is_falling_asleep
                or replica.state is ReplicaState.ASLEEP
                or self._is_staying(deployment, replica)
                or label(deployment, replica) in self._falling_asleep
            )
            for replica in deployment.replicas
        )

    def _is_staying(self, deployment: DeploymentFact, replica: ReplicaFact) -> bool:
        """Awake, and not leaving in this plan either."""
        is_here = not replica.is_leaving and not replica.has_given_up and replica.state is not ReplicaState.ASLEEP
        return is_here and not self._room.is_going(label(deployment, replica))

    def _evictions(self) -> Iterator[Evict]:
        for deployment in self._fleet.deployments:
            reason = self._evicted.get(deployment.name)
            if reason is None:
                continue
            num_staying = sum(self._is_staying(deployment, replica) for replica in deployment.replicas)
            to_count = max(deployment.min_replica_count, num_staying)
            if to_count < deployment.desired:
                yield Evict(deployment.name, to_count, reason)

    def _beneficiary(self, claimant: Claimant, victim: DeploymentFact) -> str:
        if claimant.deployment is None:
            return _kind(claimant)
        return name_for(victim.name, claimant.name)


def _kind(claimant: Claimant) -> str:
    if claimant.deployment is not None:
        return "a deployment"
    return "a lease" if claimant.priority is Priority.LEASE else "a job"
