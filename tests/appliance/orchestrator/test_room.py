from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from appliance.config import GIB
from appliance.domain import ReplicaState
from appliance.orchestrator.claimants import Claimant, of_deployment
from appliance.orchestrator.fleet import DeploymentFact, Fleet
from appliance.orchestrator.rolling import Upkeep
from appliance.orchestrator.room import Room, Way
from tests.appliance.orchestrator.fleet_samples import NOW, SETTINGS, demand, deployment, fleet, replica
from tests.fakes.fake_gpus import fake_device

TWO = [fake_device(0), fake_device(1)]


def claimant(gigabytes: float, count: int = 1) -> Claimant:
    fact = deployment("claimant", demands=(demand(gigabytes, count=count),))
    return of_deployment(fact, Upkeep(num_missing=1), NOW)[0]


def find(world: Fleet, wanted: Claimant) -> Way | None:
    return Room(world, SETTINGS).find_way(wanted)


def owners(way: Way | None) -> list[str]:
    assert way is not None
    return sorted(source.owner.split("/")[3] for source in way.sources)


def idle(name: str, gigabytes: float, idle_s: float, *devices: int) -> DeploymentFact:
    return deployment(name, replica(gigabytes, devices or (0,), idle_since=NOW - idle_s))


def test_the_least_recently_used_make_room_and_no_more_than_needed() -> None:
    world = fleet(idle("a", 20, 300), idle("b", 20, 200), idle("c", 40, 100))
    assert owners(find(world, claimant(20))) == ["a"]
    assert owners(find(world, claimant(40))) == ["a", "b"]
    assert owners(find(world, claimant(60))) == ["a", "c"]


def test_nobody_is_asked_when_it_would_not_suffice() -> None:
    world = fleet(idle("a", 20, 300), deployment("pinned", replica(60), is_pinned=True))
    assert find(world, claimant(21)) is None


def test_the_device_whose_replicas_are_missed_least_is_cleared() -> None:
    world = fleet(idle("a", 70, 100, 0), idle("b", 70, 200, 1), devices=TWO)
    way = find(world, claimant(70))
    assert owners(way) == ["b"]
    assert way is not None
    assert way.device_ids == ("simulated-1",)


def test_several_devices_are_cleared_together() -> None:
    world = fleet(idle("a", 70, 100, 0), idle("b", 70, 200, 1), idle("c", 70, 300, 2), devices=[*TWO, fake_device(2)])
    assert owners(find(world, claimant(70, count=2))) == ["b", "c"]
    assert find(world, claimant(81, count=2)) is None


def test_one_that_spans_devices_frees_them_all_at_once() -> None:
    world = fleet(idle("wide", 50, 100, 0, 1), idle("a", 30, 500, 0), devices=TWO)
    assert owners(find(world, claimant(50, count=2))) == ["wide"]


def test_what_is_leaving_is_promised_once() -> None:
    leaving = deployment("a", replica(60, is_leaving=True), desired=0)
    world = fleet(leaving, idle("b", 60, 100, 1), devices=TWO)
    room = Room(world, SETTINGS)
    first = room.find_way(claimant(60))
    assert first is not None
    assert (first.sources, room.promise(first)) == ((), [])
    assert owners(room.find_way(claimant(60))) == ["b"]


def test_what_is_free_stays_for_others_while_a_claimant_waits_for_what_returns() -> None:
    room = Room(fleet(deployment("a", replica(60, is_leaving=True), desired=0)), SETTINGS)
    way = room.find_way(claimant(50))
    assert way is not None
    room.promise(way)
    assert room.place(demand(20)) is not None
    assert room.place(demand(21)) is None


def test_one_that_drains_is_waited_for_before_others_are_asked_until_the_wait_is_too_long() -> None:
    draining = deployment("slow", replica(60, is_leaving=True, num_in_flight=1), desired=0)
    world = fleet(draining, idle("b", 60, 100, 1), devices=TWO)
    way = find(world, claimant(60))
    assert way is not None
    assert [source.tenant for source in way.sources] == [None]
    overdue = claimant(60)._replace(waited_s=SETTINGS.max_wait_s + 1)
    assert owners(find(world, overdue)) == ["b"]


def test_a_sleeper_is_woken_at_home_unless_only_busy_ones_are_there() -> None:
    asleep = deployment("s", replica(60, (0,), state=ReplicaState.ASLEEP))
    (wanted,) = of_deployment(asleep, Upkeep(num_missing=1, sleeping=asleep.replicas), NOW)
    world = fleet(asleep, idle("a", 60, 100, 0), idle("b", 60, 500, 1), devices=TWO)
    assert owners(find(world, wanted)) == ["a"]
    busy = deployment("a", replica(60, (0,), num_in_flight=1))
    world = fleet(asleep, busy, idle("b", 60, 500, 1), devices=TWO)
    assert owners(find(world, wanted._replace(is_urgent=True))) == ["b"]


def test_no_more_of_a_deployment_go_than_its_minimum_leaves() -> None:
    three = deployment("d", *(replica(25, index=index) for index in range(3)), min_replica_count=1)
    assert len(owners(find(fleet(three), claimant(50)))) == 2
    assert find(fleet(three), claimant(60)) is None


def test_a_device_is_kept_for_one_that_is_to_have_it_soon() -> None:
    """It evicts nobody before all can go, but neither what is free there nor whoever could go is for others."""
    new = deployment("new", replica(20, (0,), ready_at=NOW - 30))
    world = fleet(new, idle("old", 40, 500, 0), deployment("pinned", replica(70, (1,)), is_pinned=True), devices=TWO)
    room = Room(world, SETTINGS)
    assert room.find_way(claimant(80)) is None
    room.keep_for(claimant(80))
    assert room.place(demand(11)) is None
    assert room.find_way(claimant(20)) is None


def test_nothing_is_kept_for_one_that_will_not_fit() -> None:
    pinned = deployment("pinned", replica(20), is_pinned=True)
    room = Room(fleet(pinned, idle("old", 20, 500)), SETTINGS)
    room.keep_for(claimant(80))
    assert room.place(demand(40)) is not None


holdings = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 500), st.sampled_from([(0,), (1,), (0, 1)])), max_size=6
)


@given(holdings, st.integers(1, 80), st.integers(1, 2))
def test_the_dearest_of_those_asked_could_not_have_been_cheaper(
    holdings: list[tuple[int, int, tuple[int, ...]]], gigabytes: int, count: int
) -> None:
    """Against every subset of those that could be asked."""
    held = {0: 0, 1: 0}
    facts = []
    for number, (size, idle_s, devices) in enumerate(holdings):
        if any(held[device] + size > 80 for device in devices):
            continue
        for device in devices:
            held[device] += size
        facts.append(idle(f"d{number}", size, idle_s, *devices))
    world = fleet(*facts, devices=TWO)
    way = find(world, claimant(gigabytes, count))

    def frees_enough(chosen: tuple[DeploymentFact, ...]) -> bool:
        free = dict(world.free_bytes)
        for fact in chosen:
            for device_id in fact.replicas[0].device_ids:
                free[device_id] += fact.replicas[0].reserved_bytes
        return sum(num_bytes >= gigabytes * GIB for num_bytes in free.values()) >= count

    sets = [each for size in range(len(facts) + 1) for each in combinations(facts, size) if frees_enough(each)]
    if way is None:
        assert not sets
        return
    chosen = tuple(fact for fact in facts if fact.name.split("/")[3] in owners(way))
    assert frees_enough(chosen)
    assert not any(frees_enough(tuple(f for f in chosen if f is not fact)) for fact in chosen), "more than needed"
    if count == 1:  # for several devices it goes device by device, which may miss the best combination
        assert _dearest(chosen) == min(_dearest(each) for each in sets)


def _dearest(chosen: tuple[DeploymentFact, ...]) -> float:
    return max((fact.replicas[0].idle_since or 0.0 for fact in chosen), default=0.0)
