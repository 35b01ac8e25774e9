"""A fleet in virtual time: requests arrive, replicas load, serve, drain and sleep as a plan says. Nothing runs.

It does what the supervisor and the services do with a plan, and checks after each plan that it could be carried out:
no more is reserved than is free, and nothing is stopped that serves, but by a drain.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.config import GIB, FleetSettings
from appliance.domain import AutoscalingPolicy, ReplicaState
from appliance.orchestrator.fleet import (
    Action,
    Demand,
    DeploymentFact,
    Evict,
    Fleet,
    FleetPlan,
    Priority,
    ReplicaFact,
    Sleep,
    Start,
    Stop,
    Wake,
)
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.scaling import NOTHING_REMEMBERED, Load, Memory, ScalingFacts, decide

Plan = Callable[[Fleet, FleetSettings], FleetPlan]

STOP_S = 0.5
SLEEP_S = 0.5
"""To give the devices' memory back, either way."""
LOOK_S = 1.0
"""Between looks while somebody waits."""
SCALE_S = 10.0
"""Between looks at load."""


@dataclass(frozen=True)
class SimulatedModel:
    """A deployment and the model that it serves."""

    name: str
    gigabytes: int = 60
    load_s: float = 8.0
    wake_s: float = 2.0
    host_gigabytes: int = 0
    """What it holds asleep; 0: it cannot sleep."""
    min_replica_count: int = 0
    max_replica_count: int = 1
    priority: Priority = Priority.DEPLOYMENT
    is_pinned: bool = False
    may_evict: bool = True


class Arrival(NamedTuple):
    at: float
    model: str
    service_s: float


@dataclass(eq=False)
class SimulatedReplica:
    model: SimulatedModel
    index: int
    device_ids: tuple[str, ...]
    num_bytes: int
    state: ReplicaState = ReplicaState.LOADING
    is_leaving: bool = False
    is_falling_asleep: bool = False
    num_in_flight: int = 0
    ready_at: float | None = None
    idle_since: float | None = None

    def fact(self) -> ReplicaFact:
        return ReplicaFact(
            index=self.index,
            revision=1,
            state=self.state,
            device_ids=self.device_ids,
            reserved_bytes=self.num_bytes,
            host_bytes=self.model.host_gigabytes * GIB,
            is_leaving=self.is_leaving,
            is_falling_asleep=self.is_falling_asleep,
            num_in_flight=self.num_in_flight,
            ready_at=self.ready_at,
            idle_since=None if self.num_in_flight else self.idle_since,
        )


@dataclass(eq=False)
class SimulatedDeployment:
    model: SimulatedModel
    desired: int
    last_used_at: float = 0.0
    waiting_since: float | None = None
    memory: Memory = NOTHING_REMEMBERED
    queue: list[Arrival] = field(default_factory=list)
    replicas: list[SimulatedReplica] = field(default_factory=list)

    @property
    def ready(self) -> list[SimulatedReplica]:
        return [each for each in self.replicas if each.state is ReplicaState.READY and not each.is_leaving]

    def fact(self) -> DeploymentFact:
        model = self.model
        return DeploymentFact(
            name=model.name,
            desired=self.desired,
            min_replica_count=model.min_replica_count,
            revision=1,
            priority=model.priority,
            is_pinned=model.is_pinned,
            may_evict=model.may_evict,
            created_at=0.0,
            last_used_at=self.last_used_at,
            demands=(Demand(model.gigabytes * GIB, None, 1),),
            waiting_since=self.waiting_since,
            num_waiting=len(self.queue),
            load_s=model.load_s,
            replicas=tuple(replica.fact() for replica in self.replicas),
        )


class SimulatedFleet:
    def __init__(
        self,
        devices: Sequence[Device],
        models: Iterable[SimulatedModel],
        settings: FleetSettings,
        plan: Plan,
        *,
        host_gigabytes: int = 0,
        policy: AutoscalingPolicy | None = None,
    ) -> None:
        self.now = 0.0
        self.deployments = {model.name: SimulatedDeployment(model, model.min_replica_count) for model in models}
        self.counts: Counter[str] = Counter()
        """Of actions, by the name of their type."""
        self.waits_s: list[float] = []
        """Of every request, until a replica took it."""
        self.longest_wait_s: dict[str, float] = {}
        """By model."""
        self.device_s = 0.0
        """Of a whole device's memory: held bytes over time, by the bytes of one device."""
        self.log: list[tuple[float, Action]] = []
        self._devices = devices
        self._settings = settings
        self._plan = plan
        self._host_bytes = host_gigabytes * GIB
        self._policy = policy
        """None: nobody scales by load, and what was asked for once stays desired."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._is_look_due = False
        self._is_timer_set = False

    def run(self, arrivals: Iterable[Arrival], until: float | None = None) -> None:
        """Every arrival; then until all that runs has come to its end, or to the time given."""
        for arrival in arrivals:
            self._at(arrival.at, lambda arrival=arrival: self._arrive(arrival))  # type: ignore[misc]
        self._look_soon()
        if self._policy is not None:
            self._at(SCALE_S, self._scale)
        while self._events and (until is None or self._events[0][0] <= until):
            at, _, happen = heapq.heappop(self._events)
            self.device_s += (at - self.now) * self._num_devices_held()
            self.now = at
            happen()
        assert until is not None or not any(deployment.queue for deployment in self.deployments.values())

    def fleet(self) -> Fleet:
        free = {device.id: device.memory_bytes for device in self._devices}
        host_bytes = self._host_bytes
        for deployment in self.deployments.values():
            for replica in deployment.replicas:
                if replica.state is ReplicaState.ASLEEP or replica.is_falling_asleep:
                    host_bytes -= replica.model.host_gigabytes * GIB
                if replica.state is not ReplicaState.ASLEEP:
                    for device_id in replica.device_ids:
                        free[device_id] -= replica.num_bytes
        assert min(free.values()) >= 0, f"overcommitted at {self.now}: {free}"
        assert host_bytes >= 0, f"host memory overcommitted at {self.now}"
        facts = [deployment.fact() for deployment in self.deployments.values()]
        return Fleet(self.now, self._devices, free, host_bytes, facts)

    # ---- what happens

    def _at(self, at: float, happen: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (at, self._num_events, happen))

    def _arrive(self, arrival: Arrival) -> None:
        deployment = self.deployments[arrival.model]
        deployment.last_used_at = self.now
        if deployment.ready:
            self._serve(deployment, arrival)
            return
        deployment.queue.append(arrival)
        deployment.desired = max(1, deployment.desired)
        if deployment.waiting_since is None:
            deployment.waiting_since = self.now
        self._look_soon()

    def _serve(self, deployment: SimulatedDeployment, arrival: Arrival) -> None:
        replica = min(deployment.ready, key=lambda each: each.num_in_flight)
        replica.num_in_flight += 1
        wait_s = self.now - arrival.at
        self.waits_s.append(wait_s)
        self.longest_wait_s[arrival.model] = max(wait_s, self.longest_wait_s.get(arrival.model, 0.0))
        self._at(self.now + arrival.service_s, lambda: self._finish(deployment, replica))

    def _finish(self, deployment: SimulatedDeployment, replica: SimulatedReplica) -> None:
        replica.num_in_flight -= 1
        if replica.num_in_flight:
            return
        replica.idle_since = deployment.last_used_at = self.now
        if replica.is_leaving:
            self._leave(deployment, replica)

    def _scale(self) -> None:
        """What load asks for, by the rules of the autoscaler."""
        assert self._policy is not None
        for deployment in self.deployments.values():
            if deployment.desired == 0:
                continue
            num_requests = len(deployment.queue) + sum(replica.num_in_flight for replica in deployment.replicas)
            facts = ScalingFacts(
                policy=self._policy,
                count=deployment.desired,
                min_replica_count=deployment.model.min_replica_count,
                max_replica_count=deployment.model.max_replica_count,
                load=Load(concurrent_requests=num_requests),
                idle_s=0.0 if num_requests else self.now - deployment.last_used_at,
                is_starting=any(replica.state is ReplicaState.LOADING for replica in deployment.replicas),
            )
            verdict = decide(facts, deployment.memory, SCALE_S)
            deployment.memory = verdict.memory
            if verdict.count != deployment.desired:
                deployment.desired = verdict.count
                self._look_soon()
        if self._events:  # something is still to happen
            self._at(self.now + SCALE_S, self._scale)

    def _become_ready(self, deployment: SimulatedDeployment, replica: SimulatedReplica) -> None:
        if replica.is_leaving:
            return  # stopped while it loaded
        replica.state = ReplicaState.READY
        replica.ready_at = replica.idle_since = self.now
        deployment.waiting_since = None
        waiting, deployment.queue = deployment.queue, []
        for arrival in waiting:
            self._serve(deployment, arrival)
        self._look_soon()

    # ---- what is planned

    def _look_soon(self) -> None:
        if not self._is_look_due:
            self._is_look_due = True
            self._at(self.now, self._look)

    def _look(self) -> None:
        self._is_look_due = False
        plan = self._plan(self.fleet(), self._settings)
        for action in plan.actions:
            self.counts[type(action).__name__] += 1
            self.log.append((self.now, action))
            self._carry_out(action)
        if any(deployment.waiting_since is not None for deployment in self.deployments.values()):
            self._look_again()

    def _look_again(self) -> None:
        """For a wait changes what may be done, though nothing happens."""
        if not self._is_timer_set:
            self._is_timer_set = True
            self._at(self.now + LOOK_S, self._on_timer)

    def _on_timer(self) -> None:
        self._is_timer_set = False
        self._look_soon()

    def _carry_out(self, action: Action) -> None:
        match action:
            case Start():
                deployment = self.deployments[action.deployment]
                assert action.index not in [replica.index for replica in deployment.replicas]
                replica = SimulatedReplica(deployment.model, action.index, action.device_ids, action.num_bytes)
                deployment.replicas.append(replica)
                self._at(self.now + deployment.model.load_s, lambda: self._become_ready(deployment, replica))
            case Wake():
                deployment, replica = self._find(action.deployment, action.index)
                assert replica.state is ReplicaState.ASLEEP
                replica.state = ReplicaState.LOADING
                self._at(self.now + deployment.model.wake_s, lambda: self._become_ready(deployment, replica))
            case Stop() | Sleep():
                deployment, replica = self._find(action.deployment, action.index)
                assert not replica.is_leaving
                replica.is_leaving, replica.is_falling_asleep = True, isinstance(action, Sleep)
                if not replica.num_in_flight:
                    self._leave(deployment, replica)
            case Evict():
                deployment = self.deployments[action.deployment]
                assert action.to_count < deployment.desired
                deployment.desired = action.to_count
            case _:
                raise AssertionError(f"no claims here: {action}")

    def _find(self, name: str, index: int) -> tuple[SimulatedDeployment, SimulatedReplica]:
        deployment = self.deployments[name]
        return deployment, next(replica for replica in deployment.replicas if replica.index == index)

    def _leave(self, deployment: SimulatedDeployment, replica: SimulatedReplica) -> None:
        assert replica.num_in_flight == 0
        if replica.state is ReplicaState.ASLEEP:
            assert not replica.is_falling_asleep
            replica.num_bytes = 0  # it holds none, and will not
        replica.state = ReplicaState.DRAINING if replica.is_falling_asleep else ReplicaState.STOPPING

        def arrive() -> None:
            if replica.is_falling_asleep:
                replica.state, replica.is_leaving, replica.is_falling_asleep = ReplicaState.ASLEEP, False, False
                replica.ready_at = replica.idle_since = None
            else:
                deployment.replicas.remove(replica)
            self._look_soon()

        self._at(self.now + (SLEEP_S if replica.is_falling_asleep else STOP_S), arrive)

    def _num_devices_held(self) -> float:
        held = sum(
            replica.num_bytes * len(replica.device_ids)
            for deployment in self.deployments.values()
            for replica in deployment.replicas
            if replica.state is not ReplicaState.ASLEEP
        )
        return held / self._devices[0].memory_bytes


def plan_least_recently_used(fleet: Fleet, settings: FleetSettings) -> FleetPlan:
    """What a plain LRU cache of models does: a model that is asked for displaces the least recently used one at once.

    Only busy ones are spared; it knows neither residency nor turns.
    """
    actions: list[Action] = []
    free = dict(fleet.free_bytes)
    returning = {device.id: 0 for device in fleet.devices}
    resident = []
    for deployment in fleet.deployments:
        for replica in deployment.replicas:
            if replica.is_leaving:
                returning[replica.device_ids[0]] += replica.reserved_bytes
            elif replica.state is ReplicaState.READY:
                resident.append((deployment, replica))
            if deployment.desired == 0 and replica.state is ReplicaState.READY and not replica.is_leaving:
                actions.append(Stop(deployment.name, replica.index, None, "idle"))
                resident.remove((deployment, replica))
                returning[replica.device_ids[0]] += replica.reserved_bytes
    resident.sort(key=lambda each: each[0].last_used_at)
    waiting = [each for each in fleet.deployments if each.desired and not any(not r.is_leaving for r in each.replicas)]
    for deployment in sorted(waiting, key=lambda each: each.waiting_since or 0.0):
        needed = deployment.demands[-1].num_bytes
        index = len(deployment.replicas)
        home = next((device.id for device in fleet.devices if free[device.id] >= needed), None)
        if home is not None:
            free[home] -= needed
            actions.append(Start(deployment.name, index, (home,), needed))
            continue
        home = next((each for each in returning if free[each] + returning[each] >= needed), None)
        if home is None:
            home = _displace(deployment, [each for each in resident if not each[1].num_in_flight], free, actions)
            for each in [each for each in resident if (each[0].name, each[1].index) in _stopped(actions)]:
                resident.remove(each)
                returning[each[1].device_ids[0]] += each[1].reserved_bytes
        if home is not None:
            returning[home] -= needed - min(needed, free[home])
            free[home] -= min(needed, free[home])
    return FleetPlan(tuple(actions), {})


def _displace(
    deployment: DeploymentFact,
    idle: Sequence[tuple[DeploymentFact, ReplicaFact]],
    free: Mapping[str, int],
    actions: list[Action],
) -> str | None:
    """Least recently used ones, until one device has room."""
    found = dict(free)
    victims = []
    for victim, replica in idle:
        victims.append((victim, replica))
        home = replica.device_ids[0]
        found[home] += replica.reserved_bytes
        if found[home] >= deployment.demands[-1].num_bytes:
            for each, its in victims:
                if its.device_ids[0] == home:
                    actions += [Evict(each.name, 0, "least recently used"), Stop(each.name, its.index, None, "swap")]
            return home
    return None


def _stopped(actions: Sequence[Action]) -> set[tuple[str, int]]:
    return {(action.deployment, action.index) for action in actions if isinstance(action, Stop)}
