import pytest
from msgspec.structs import replace

from appliance.domain import AutoscalingPolicy, ReplicaState
from appliance.services.replica_rest import Rest, rest_of
from tests.appliance.orchestrator.samples import sample_deployment

DEPLOYMENT = sample_deployment(autoscaling=AutoscalingPolicy(scale_to_zero_window_s=600.0))


def test_an_idle_replica_rests_when_the_window_since_its_last_request_is_over() -> None:
    assert rest_of(DEPLOYMENT, ReplicaState.READY, idle_s=100.0, now=1000.0) == Rest(until=1500.0)


@pytest.mark.parametrize(
    ("changes", "idle_s", "kept_by"),
    [
        ({"min_replica_count": 2}, 5.0, "minReplicaCount 2"),
        ({}, None, "busy"),
    ],
)
def test_what_keeps_a_replica_is_said(changes: dict[str, object], idle_s: float | None, kept_by: str) -> None:
    rest = rest_of(replace(DEPLOYMENT, **changes), ReplicaState.READY, idle_s, now=1000.0)
    assert rest == Rest(kept_by=kept_by)


def test_only_a_ready_replica_has_a_time_of_rest() -> None:
    others = set(ReplicaState) - {ReplicaState.READY}
    assert {rest_of(DEPLOYMENT, state, 5.0, 1000.0) for state in others} == {Rest()}
