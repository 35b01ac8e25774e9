from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.domain import AutoscalingPolicy, Deployment, DeploymentState, Precision, ShapePreset
from appliance.orchestrator.group import ReplicaCounts
from appliance.services.deployment_state import (
    NEEDS_NEW_WORKERS,
    needs_new_workers,
    next_state,
    replica_count_after_change,
    state_after_change,
)
from tests.appliance.services.samples import deployment

CREATING, READY, FAILED = DeploymentState.CREATING, DeploymentState.READY, DeploymentState.FAILED
UPDATING, DELETING, DELETED = DeploymentState.UPDATING, DeploymentState.DELETING, DeploymentState.DELETED
FAST = deployment("acme", "fast", "accounts/acme/models/poet")

CHANGES: dict[str, Any] = {
    "accelerator_type": "NVIDIA_L4_24GB",
    "accelerator_count": 2,
    "precision": Precision.FP16,
    "max_context_length": 100,
    "draft_model": "accounts/acme/models/apprentice",
    "draft_token_count": 4,
    "ngram_speculation_length": 3,
    "shape_preset": ShapePreset.THROUGHPUT,
    "kv_cache_fraction": 0.5,
    "enable_addons": True,
    "display_name": "Fast",
    "description": "quick",
    "annotations": {"team": "shop"},
    "min_replica_count": 1,
    "max_replica_count": 2,
    "autoscaling": AutoscalingPolicy(scale_up_window_s=1.0),
    "auto_delete_s": 0.0,
    "shape": "accounts/library/deploymentShapes/fast/versions/v1",
    "enable_session_affinity": False,
    "is_pinned": True,
    "may_evict": False,
    "expires_at": 9.0,
}
ROLLS = {
    "accelerator_type",
    "accelerator_count",
    "precision",
    "max_context_length",
    "draft_model",
    "draft_token_count",
    "ngram_speculation_length",
    "shape_preset",
    "kv_cache_fraction",
    "enable_addons",
}
NOT_ASKED_FOR = {
    "account_id",
    "id",
    "base_model",
    "state",
    "status_message",
    "desired_replica_count",
    "is_serverless",
    "created_by",
    "revision",
    "termination_message",
    "created_at",
    "updated_at",
    "last_used_at",
    "deleted_at",
    "purge_at",
}


@pytest.mark.parametrize(
    ("current", "wanted", "ready", "starting", "waiting", "failed", "outdated", "following"),
    [
        (CREATING, 1, 0, 1, 0, 0, 0, CREATING),
        (CREATING, 1, 0, 0, 1, 0, 0, CREATING),
        (CREATING, 2, 0, 0, 1, 1, 0, CREATING),
        (CREATING, 2, 1, 0, 0, 1, 0, READY),
        (CREATING, 1, 1, 0, 0, 0, 0, READY),
        (CREATING, 0, 0, 0, 0, 0, 0, READY),
        (CREATING, 1, 0, 0, 0, 1, 0, FAILED),
        (CREATING, 1, 0, 1, 0, 0, 1, CREATING),
        (READY, 1, 1, 0, 0, 0, 0, READY),
        (READY, 1, 0, 1, 0, 0, 0, READY),
        (READY, 1, 0, 0, 1, 0, 0, READY),
        (READY, 0, 0, 0, 0, 0, 0, READY),
        (READY, 2, 0, 0, 0, 2, 0, FAILED),
        (READY, 2, 1, 0, 0, 1, 0, READY),
        (READY, 2, 2, 0, 0, 0, 2, UPDATING),
        (UPDATING, 2, 2, 0, 0, 0, 1, UPDATING),
        (UPDATING, 2, 3, 0, 0, 0, 1, UPDATING),
        (UPDATING, 2, 2, 0, 0, 0, 0, READY),
        (UPDATING, 1, 0, 0, 0, 0, 1, UPDATING),
        (UPDATING, 1, 0, 1, 0, 0, 0, UPDATING),
        (UPDATING, 1, 0, 0, 0, 1, 0, FAILED),
        (UPDATING, 0, 0, 0, 0, 0, 0, READY),
        (FAILED, 1, 0, 0, 0, 1, 0, FAILED),
        (FAILED, 1, 0, 1, 0, 0, 0, CREATING),
        (FAILED, 1, 0, 0, 1, 0, 0, CREATING),
        (FAILED, 2, 1, 1, 0, 0, 0, READY),
        (FAILED, 2, 1, 1, 0, 0, 1, UPDATING),
        (FAILED, 0, 0, 0, 0, 0, 0, READY),
        (DELETING, 0, 0, 0, 0, 0, 0, DELETED),
        (DELETING, 1, 1, 0, 0, 0, 0, DELETING),
        (DELETING, 1, 0, 0, 0, 1, 0, DELETING),
        (DELETED, 0, 0, 0, 0, 0, 0, DELETED),
    ],
)
def test_observation_moves_a_deployment(
    current: DeploymentState,
    wanted: int,
    ready: int,
    starting: int,
    waiting: int,
    failed: int,
    outdated: int,
    following: DeploymentState,
) -> None:
    assert next_state(current, ReplicaCounts(wanted, ready, starting, waiting, failed, outdated)) is following


@given(current=st.sampled_from(DeploymentState), counts=st.tuples(*[st.integers(0, 3)] * 6))
def test_no_observation_deletes_or_brings_back(current: DeploymentState, counts: tuple[int, ...]) -> None:
    following = next_state(current, ReplicaCounts(sum(counts[:4]), *counts))
    if current in (DELETING, DELETED):
        assert following in (DELETING, DELETED)
        assert current is DELETING or following is DELETED
    else:
        assert following not in (DELETING, DELETED)


def test_one_that_sleeps_only_is_not_gone_yet() -> None:
    assert next_state(DELETING, ReplicaCounts(0, 0, 0, 0, 0, asleep=1)) is DELETING
    assert next_state(READY, ReplicaCounts(0, 0, 0, 0, 0, asleep=1)) is READY


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_needs_new_workers_when_workers_are_told_of_it(field: str) -> None:
    assert needs_new_workers(FAST, replace(FAST, **{field: CHANGES[field]})) is (field in ROLLS)


def test_every_field_of_a_deployment_is_known_to_need_new_workers_or_not() -> None:
    assert set(Deployment.__struct_fields__) == CHANGES.keys() | NOT_ASKED_FOR
    assert set(NEEDS_NEW_WORKERS) == ROLLS


def test_a_new_revision_is_updating_from_the_first_moment_when_replicas_serve_the_old_one() -> None:
    assert state_after_change(FAST, is_new_revision=True) is UPDATING
    assert state_after_change(FAST, is_new_revision=False) is READY
    assert state_after_change(replace(FAST, desired_replica_count=0), is_new_revision=True) is READY
    for state in (CREATING, FAILED, UPDATING):
        assert state_after_change(replace(FAST, state=state), is_new_revision=True) is state


@pytest.mark.parametrize(
    ("desired", "minimum", "maximum", "following"), [(1, 0, 3, 1), (1, 2, 3, 2), (5, 0, 3, 3), (0, 0, 3, 0)]
)
def test_what_is_desired_follows_the_limits(desired: int, minimum: int, maximum: int, following: int) -> None:
    changed = replace(FAST, desired_replica_count=desired, min_replica_count=minimum, max_replica_count=maximum)
    assert replica_count_after_change(changed) == following
