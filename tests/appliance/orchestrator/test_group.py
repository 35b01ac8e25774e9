from pathlib import Path

import pytest

from appliance.domain import DeploymentState, ReplicaState
from appliance.orchestrator.group import Group, ReplicaCounts
from appliance.orchestrator.replica import Replica, ReplicaPlan
from appliance.store.database import Database
from runtime.protocol import LlmSettings, Load
from tests.appliance.orchestrator.samples import sample_deployment, sample_settings
from tests.fakes.fake_gpus import FakeInventory, fake_device


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


def make_replica(index: int, state: ReplicaState, database: Database) -> Replica:
    llm = LlmSettings(device="cpu", dtype="float32", memory_budget_bytes=1, max_context_length=64)
    plan = ReplicaPlan(
        account_id="acme",
        deployment_id="d",
        deployment_name="accounts/acme/deployments/d",
        index=index,
        device=fake_device(),
        reserved_bytes=1,
        load=Load(kind="llm", model_dir="/m", file_sha256={}, settings=llm),
    )
    replica = Replica(
        plan,
        settings=sample_settings(),
        database=database,
        inventory=FakeInventory(),
        run_dir=Path("/nowhere"),
        on_change=lambda replica: None,
    )
    replica.state = state
    return replica


def test_every_wanted_replica_is_counted_once(group: Group) -> None:
    assert group.counts() == ReplicaCounts(wanted=4, ready=1, starting=1, waiting=1, failed=1)


def test_the_message_says_what_keeps_it_from_serving_and_no_old_stories(group: Group) -> None:
    group.waiting_reason = "needs 31.2 GiB"
    assert group.message() == (
        "needs 31.2 GiB; replica 1 starts again: the worker was ended by SIGKILL; "
        "replica 2 failed: no such architecture"
    )


def test_only_the_missing_are_to_be_started(group: Group) -> None:
    assert group.missing == [3]


@pytest.mark.parametrize("state", [DeploymentState.DELETING, DeploymentState.DELETED])
def test_what_is_being_deleted_wants_nothing(group: Group, state: DeploymentState) -> None:
    group.see(sample_deployment(desired_replica_count=4, state=state))
    assert (group.desired, group.missing) == (0, [])
    assert group.counts() == ReplicaCounts(0, 0, 0, 0, 0)


def test_a_lost_row_wants_nothing(group: Group) -> None:
    group.lose_row()
    assert group.desired == 0


def test_those_who_gave_up_try_again_when_the_deployment_changes_and_not_when_its_status_does(group: Group) -> None:
    group.see(sample_deployment(desired_replica_count=4, status_message="replica 2 failed", updated_at=9.0))
    assert group.missing == [3]
    group.see(sample_deployment(desired_replica_count=4, max_context_length=128))
    assert group.missing == [2, 3]


def test_it_has_failed_only_when_all_that_is_left_gave_up(group: Group) -> None:
    outlook = group.outlook(load_s=2.0)
    assert (outlook.has_failed, outlook.load_s) == (False, 2.0)
    group.replicas = {2: group.replicas[2]}
    assert group.outlook(load_s=None).has_failed
    group.replicas = {}
    assert not group.outlook(load_s=None).has_failed


def test_views_tell_every_replica_in_order(group: Group) -> None:
    views = group.views()
    assert [view.index for view in views] == [0, 1, 2, 4]
    assert views[2].reason == "no such architecture"
    assert views[0].pid is None
