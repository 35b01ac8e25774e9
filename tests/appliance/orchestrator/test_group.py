from typing import Any

import pytest

from appliance.domain import DeploymentState, Footprint, ReplicaState
from appliance.orchestrator.fleet import Explanation
from appliance.orchestrator.group import ColdStart, Group, ReplicaCounts
from appliance.orchestrator.replica import Replica
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import sample_deployment, sample_plan, sample_settings, sample_surroundings
from tests.fakes.fake_gpus import FakeInventory

FOOTPRINT = Footprint(key="k", num_bytes=1, kv_bytes=0, load_s=8.0, warm_load_s=2.0, measured_at=0.0)


@pytest.fixture
def group(database: Database) -> Group:
    """Four desired: one ready, one loading, one gave up, none for the fourth; a fifth is being stopped."""
    group = Group(sample_deployment(desired_replica_count=4))
    for index, state in [
        (0, ReplicaState.READY),
        (1, ReplicaState.LOADING),
        (2, ReplicaState.FAILED),
        (4, ReplicaState.DRAINING),
    ]:
        group.replicas[index] = make_replica(index, state, database)
    group.replicas[0].reason = "an old story"
    group.replicas[1].reason = "the worker was ended by SIGKILL"
    group.replicas[2].reason = "no such architecture"
    group.replicas[4].reason = "an old story too"
    group.replicas[2].has_given_up = True
    return group


def make_replica(index: int, state: ReplicaState, database: Database, **changes: Any) -> Replica:
    inventory = FakeInventory()
    around = sample_surroundings(sample_settings(), database, inventory)
    replica = Replica(sample_plan(index=index, **changes), around, lambda replica: None)
    replica.state = state
    if state is ReplicaState.DRAINING:
        replica.sleep()
    replica.holds_devices = state is not ReplicaState.ASLEEP
    return replica


def needs_room(group: Group) -> bool:
    return group.needs_room


async def test_every_wanted_replica_is_counted_once(group: Group) -> None:
    assert group.counts() == ReplicaCounts(wanted=4, ready=1, starting=1, waiting=1, failed=1)


async def test_sleepers_and_those_of_an_older_revision_are_counted(group: Group, database: Database) -> None:
    group.replicas[5] = make_replica(5, ReplicaState.ASLEEP, database)
    group.see(sample_deployment(desired_replica_count=4, revision=2))
    counts = group.counts()
    assert (counts.asleep, counts.outdated, counts.failed) == (1, 3, 0), "who had given up may try again"


async def test_the_message_says_what_keeps_it_from_serving_and_no_old_stories(group: Group) -> None:
    group.explanation = Explanation("needs 31.2 GiB", 1, 1, {})
    assert group.message() == (
        "needs 31.2 GiB; replica 1 starts again: the worker was ended by SIGKILL; "
        "replica 2 failed: no such architecture"
    )


async def test_the_last_words_of_who_gave_up_are_kept_for_the_deployment(group: Group) -> None:
    assert group.termination_message() == "no such architecture"
    del group.replicas[2]
    assert group.termination_message() == ""


async def test_it_needs_room_while_fewer_run_than_are_desired_or_old_ones_are_to_be_replaced(
    group: Group, database: Database
) -> None:
    assert needs_room(group)
    group.replicas[3] = make_replica(3, ReplicaState.ASLEEP, database)
    assert needs_room(group), "a sleeper is to be woken"
    group.replicas[3] = make_replica(3, ReplicaState.READY, database)
    assert not needs_room(group)
    group.deployment = sample_deployment(desired_replica_count=4, revision=2)
    assert needs_room(group)


@pytest.mark.parametrize("state", [DeploymentState.DELETING, DeploymentState.DELETED])
async def test_what_is_being_deleted_wants_nothing(group: Group, state: DeploymentState) -> None:
    group.see(sample_deployment(desired_replica_count=4, state=state))
    assert group.is_leaving
    assert (group.desired, group.needs_room, group.outlook(now=0.0).is_wanted) == (0, False, False)


async def test_a_lost_row_wants_nothing(group: Group) -> None:
    group.lose_row()
    assert group.desired == 0


@pytest.mark.parametrize("wish", [{"updated_at": 9.0}, {"desired_replica_count": 3}, {"revision": 2}])
async def test_those_who_gave_up_try_again_when_anything_is_asked_of_the_deployment(
    group: Group, wish: dict[str, Any]
) -> None:
    group.see(sample_deployment(desired_replica_count=4, status_message="replica 2 failed"))
    assert 2 in group.replicas, "its own status is nobody's wish"
    group.see(sample_deployment(**({"desired_replica_count": 4} | wish)))
    assert 2 not in group.replicas


async def test_it_has_failed_only_when_all_that_is_left_gave_up(group: Group) -> None:
    assert not group.outlook(now=0.0).has_failed
    group.replicas = {2: group.replicas[2]}
    assert group.outlook(now=0.0).has_failed
    group.replicas = {}
    assert not group.outlook(now=0.0).has_failed


async def test_it_is_wanted_from_when_nobody_could_serve_until_somebody_can(group: Group, database: Database) -> None:
    del group.replicas[0]
    group.note_want(now=5.0)
    group.note_want(now=7.0)
    assert group.wanted_since == 5.0
    group.see(sample_deployment(desired_replica_count=0))
    group.note_want(now=8.0)
    assert group.wanted_since is None


async def test_who_waits_is_told_what_loads_took_of_late(group: Group) -> None:
    group.footprint = FOOTPRINT
    del group.replicas[0]
    loading = group.replicas[1]
    loading.began_at = 100.0
    outlook = group.outlook(now=103.0)
    assert (outlook.load_s, outlook.is_wanted) == (8.0, True)
    assert outlook.cold_start == ColdStart("starting", 0.0, eta_s=5.0)
    loading.is_warm = True
    loading_for_long = group.outlook(now=101.5).cold_start
    assert loading_for_long is not None
    assert loading_for_long.eta_s == 0.5, "a spare worker needs less"
    late = group.outlook(now=150.0).cold_start
    assert late is not None
    assert late.eta_s is None, "nothing tells how long this one takes"


async def test_nothing_is_cold_while_one_is_ready(group: Group) -> None:
    group.replicas = {4: group.replicas[4]}
    assert group.outlook(now=0.0).cold_start is None


async def test_views_tell_every_replica_in_order(group: Group) -> None:
    views = group.views()
    assert [view.index for view in views] == [0, 1, 2, 4]
    assert views[2].reason == "no such architecture"
    assert views[0].pid is None
