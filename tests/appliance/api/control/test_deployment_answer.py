"""How a deployment, its replicas and what is in their way are shown."""

from msgspec import structs

from appliance.api.control.deployment_answer import render_deployment, render_shard
from appliance.domain import Deployment, DeploymentState, ReplicaState, ScalingDecision
from appliance.orchestrator.group import ColdStart
from appliance.orchestrator.views import ReplicaView
from runtime.protocol import LoadProgress
from tests.appliance.api.conftest import READY_MODEL


def deployment(desired: int = 3, state: DeploymentState = DeploymentState.CREATING, message: str = "") -> Deployment:
    return Deployment(
        account_id="hearth",
        id="d",
        base_model=READY_MODEL,
        state=state,
        status_message=message,
        desired_replica_count=desired,
        created_at=1.0,
        updated_at=2.0,
    )


def replica(
    index: int, state: ReplicaState, progress: LoadProgress | None = None, *, is_leaving: bool = False
) -> ReplicaView:
    return ReplicaView(
        index=index,
        state=state,
        reason="",
        device_ids=("simulated-0",),
        reserved_bytes=2**40,
        is_leaving=is_leaving,
        ready_at=3.0 if state is ReplicaState.READY else None,
        pid=1,
        num_in_flight=0,
        progress=progress,
        heartbeat=None,
        log_tail=[],
    )


def test_each_desired_replica_is_counted_in_its_stage() -> None:
    replicas = [
        replica(0, ReplicaState.READY),
        replica(1, ReplicaState.LOADING),
        replica(2, ReplicaState.FAILED),
        replica(4, ReplicaState.STARTING),
        replica(7, ReplicaState.READY, is_leaving=True),
        replica(8, ReplicaState.ASLEEP),
    ]
    answer = render_deployment(deployment(desired=5), replicas, "LOCAL")
    stats = answer.replica_stats
    assert (stats.ready_replica_count, stats.initializing_replica_count) == (1, 2)
    assert stats.pending_scheduling_replica_count == 1, "number 3 has no place yet; 7 is one too many, 8 sleeps"
    assert (answer.replica_count, answer.desired_replica_count) == (1, 5)


def test_the_status_says_what_is_in_the_way() -> None:
    waiting = render_deployment(deployment(message="needs 31 GiB, free 27 GiB"), [], "LOCAL")
    assert (waiting.status.code, waiting.status.message) == ("RESOURCE_EXHAUSTED", "needs 31 GiB, free 27 GiB")
    failed = render_deployment(deployment(state=DeploymentState.FAILED, message="replica 0 failed"), [], "LOCAL")
    assert (failed.status.code, failed.status.message) == ("INTERNAL", "replica 0 failed")
    progress = LoadProgress(stage="weights", fraction=0.456)
    loading = render_deployment(deployment(desired=1), [replica(0, ReplicaState.LOADING, progress)], "LOCAL")
    assert (loading.status.code, loading.status.message) == ("OK", "replica 0: weights 46%")


def test_replicas_and_decisions_are_told_with_the_history() -> None:
    decision = ScalingDecision(
        account_id="hearth", deployment_id="d", at=4.0, from_count=1, to_count=2, reason="7 requests at once"
    )
    progress = LoadProgress(stage="weights", fraction=0.5)
    ready = structs.replace(replica(0, ReplicaState.READY), load_s=3.25, load_ms={"weights": 2000.0, "tokenizer": 0.4})
    replicas = [ready, replica(1, ReplicaState.LOADING, progress)]
    cold_start = ColdStart("weights", 0.5, 2.04)
    answer = render_deployment(deployment(), replicas, "LOCAL", cold_start=cold_start, history=[decision])
    assert answer.replicas is not None
    first, second = answer.replicas
    assert (first.state, first.device_ids, first.reserved_bytes) == ("READY", ["simulated-0"], str(2**40))
    assert (first.ready_time, first.revision, first.used_bytes) == ("1970-01-01T00:00:03.000000Z", 1, None)
    assert (first.load_seconds, first.load_stages) == (3.25, {"weights": 2.0, "tokenizer": 0.0})
    assert (second.load_seconds, second.load_stages) == (None, {})
    assert (second.state, second.message) == ("LOADING", "weights 50%")
    assert answer.scaling_history is not None
    (shown,) = answer.scaling_history
    assert (shown.from_replica_count, shown.to_replica_count, shown.reason) == (1, 2, "7 requests at once")
    assert answer.cold_start is not None
    assert (answer.cold_start.stage, answer.cold_start.fraction, answer.cold_start.eta_seconds) == ("weights", 0.5, 2.0)
    assert render_deployment(deployment(), replicas, "LOCAL").replicas is None


def test_a_shard_counts_like_its_deployment() -> None:
    shard = render_shard(deployment(desired=2), [replica(0, ReplicaState.READY)], "LOCAL")
    assert (shard.replica_stats.ready_replica_count, shard.replica_stats.pending_scheduling_replica_count) == (1, 1)
