"""Plans carried out one after another in virtual time: what becomes of waits, swaps and promises."""

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import FleetSettings
from appliance.domain import AutoscalingPolicy, ReplicaState
from appliance.orchestrator.fleet import DeploymentFact, Evict, Fleet, FleetPlan, Priority, Sleep, Start, Stop, Wake
from appliance.orchestrator.planning import plan_fleet
from tests.fakes.fake_gpus import fake_device
from tests.fakes.simulated_fleet import LOOK_S, Arrival, Plan, SimulatedFleet, SimulatedModel, plan_least_recently_used

SETTINGS = FleetSettings()
TWO_SLOTS = [fake_device(0), fake_device(1)]


class Outcome(NamedTuple):
    num_swaps: int
    longest_wait_s: float


def play(plan: Plan, models: str, arrivals: list[Arrival], num_slots: int = 2) -> Outcome:
    """One model fits each slot."""
    fleet = SimulatedFleet(TWO_SLOTS[:num_slots], [SimulatedModel(name) for name in models], SETTINGS, plan)
    fleet.run(arrivals)
    return Outcome(fleet.counts["Start"], max(fleet.waits_s))


@pytest.mark.parametrize("spacing_s", [3.0, 5.0, 8.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_swaps_are_at_most_half_of_plain_lru_and_no_wait_is_too_long(spacing_s: float, seed: int) -> None:
    """A B A A C A B C, again and again, as a few people who talk to three models send them."""
    rng = random.Random(seed)
    arrivals, at = [], 0.0
    for model in "ABAACABC" * 15:
        at += rng.expovariate(1 / spacing_s)
        arrivals.append(Arrival(at, model, service_s=rng.uniform(1, 6)))
    ours, lru = (play(plan, "ABC", arrivals) for plan in (plan_fleet, plan_least_recently_used))
    assert ours.num_swaps <= lru.num_swaps / 2
    assert ours.longest_wait_s < SETTINGS.max_wait_s


@pytest.mark.parametrize(("models", "num_slots"), [("AB", 1), ("ABC", 2), ("ABCD", 2)])
def test_nobody_starves_where_all_are_always_busy(models: str, num_slots: int) -> None:
    """Requests of each model overlap, so that no replica is ever idle by itself."""
    arrivals = [
        Arrival(second + 0.1 * number, model, 4.0) for second in range(600) for number, model in enumerate(models)
    ]
    assert play(plan_fleet, models, arrivals, num_slots).longest_wait_s < SETTINGS.max_wait_s


@pytest.mark.parametrize("num_small", [5, 8])
def test_a_model_that_needs_a_whole_device_is_not_starved_by_small_ones(num_small: int) -> None:
    """Which come and go on it, so that one of them is always in its minimum residency."""
    rng = random.Random(num_small)
    small = [SimulatedModel(f"small{number}", gigabytes=20) for number in range(num_small)]
    fleet = SimulatedFleet(TWO_SLOTS[:1], [SimulatedModel("large", gigabytes=80), *small], SETTINGS, plan_fleet)
    arrivals = [Arrival(second, f"small{rng.randrange(num_small)}", 3.0) for second in range(0, 500, 5)]
    fleet.run([*arrivals, Arrival(200.5, "large", 3.0)])
    assert fleet.longest_wait_s["large"] < SETTINGS.max_wait_s


class _Watch:
    """A plan whose every result is compared with the rules, with what happened before in mind."""

    def __init__(self) -> None:
        self.displaced: dict[str, float] = {}

    def __call__(self, fleet: Fleet, settings: FleetSettings) -> FleetPlan:
        plan = plan_fleet(fleet, settings)
        facts = {deployment.name: deployment for deployment in fleet.deployments}
        for action in plan.actions:
            if isinstance(action, Stop | Sleep) and action.reason.startswith("made room"):
                its = next(each for each in facts[action.deployment].replicas if each.index == action.index)
                assert its.ready_at is not None
                assert fleet.now - its.ready_at >= settings.min_residency_s
                assert not facts[action.deployment].is_pinned
        self._check_longest_wait(fleet, settings, plan)
        return plan

    def _check_longest_wait(self, fleet: Fleet, settings: FleetSettings, plan: FleetPlan) -> None:
        overdue = [
            each
            for each in fleet.deployments
            if each.waiting_since is not None
            and fleet.now - each.waiting_since > settings.max_wait_s + LOOK_S
            and not any(replica.state is ReplicaState.LOADING for replica in each.replicas)
        ]
        first = min(overdue, key=lambda each: (-each.priority, each.waiting_since or 0.0), default=None)
        if first is None or any(
            isinstance(each, Start | Wake) and each.deployment == first.name for each in plan.actions
        ):
            return
        assert not any(self._could_have_room(fleet, settings, plan, first, device.id) for device in fleet.devices)

    def _could_have_room(
        self, fleet: Fleet, settings: FleetSettings, plan: FleetPlan, first: DeploymentFact, device_id: str
    ) -> bool:
        """Although nothing is on its way there."""
        if plan.actions or any(r.state is ReplicaState.STOPPING for each in fleet.deployments for r in each.replicas):
            return False  # somebody more important takes what is free, or host memory is made free for a victim's sleep
        num_bytes = fleet.free_bytes[device_id]
        for deployment in fleet.deployments:
            dispensable = sum(replica.state is ReplicaState.READY for replica in deployment.replicas)
            dispensable -= deployment.min_replica_count
            for replica in deployment.replicas:
                if device_id not in replica.device_ids or replica.state is ReplicaState.ASLEEP:
                    continue
                if replica.is_leaving:
                    return False
                is_resident = replica.ready_at is not None and fleet.now - replica.ready_at >= settings.min_residency_s
                is_spared = deployment.is_pinned or deployment.priority > first.priority or dispensable <= 0
                if is_resident and not is_spared:
                    num_bytes += replica.reserved_bytes
        return first.may_evict and num_bytes >= first.demands[-1].num_bytes


MODELS = st.lists(
    st.builds(
        SimulatedModel,
        name=st.just(""),
        gigabytes=st.integers(5, 80),
        load_s=st.floats(0.5, 30),
        host_gigabytes=st.sampled_from([0, 10, 20]),
        min_replica_count=st.sampled_from([0, 0, 0, 1]),
        priority=st.sampled_from([Priority.DEPLOYMENT, Priority.DEPLOYMENT, Priority.SERVERLESS]),
        is_pinned=st.sampled_from([False, False, False, True]),
        may_evict=st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=6,
)
POLICIES = [None, *(AutoscalingPolicy(scale_to_zero_window_s=window_s) for window_s in (20.0, 120.0))]
ARRIVALS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5), st.floats(0.1, 60)), max_size=40)


@settings(deadline=None, max_examples=60)
@given(MODELS, ARRIVALS, st.integers(1, 2), st.integers(0, 40), st.sampled_from(POLICIES))
def test_whatever_happens_no_rule_is_broken(
    drawn: list[SimulatedModel],
    gaps: list[tuple[float, int, float]],
    num_devices: int,
    host_gigabytes: int,
    policy: AutoscalingPolicy | None,
) -> None:
    models = [SimulatedModel(**{**vars(model), "name": f"m{number}"}) for number, model in enumerate(drawn)]
    fleet = SimulatedFleet(
        TWO_SLOTS[:num_devices],
        models,
        SETTINGS,
        _Watch(),
        host_gigabytes=host_gigabytes,
        policy=policy,
    )
    arrivals, at = [], 0.0
    for gap_s, number, service_s in gaps:
        at += gap_s
        arrivals.append(Arrival(at, models[number % len(models)].name, service_s))
    fleet.run(arrivals, until=at + 1000)
    evictions = [action for _, action in fleet.log if isinstance(action, Evict)]
    assert all(fleet.deployments[each.deployment].model.min_replica_count <= each.to_count for each in evictions)
