"""Each replica that has been heard shows its last heartbeat."""

from prometheus_client import CollectorRegistry, generate_latest

from appliance.domain import Deployment, DeploymentState, ReplicaState
from appliance.orchestrator.supervisor import ReplicaView
from appliance.services.replica_metrics import ReplicaMetrics
from runtime.protocol import Heartbeat

DEPLOYMENT = Deployment(
    account_id="a",
    id="d",
    base_model="accounts/a/models/m",
    state=DeploymentState.READY,
    desired_replica_count=2,
    created_at=0,
    updated_at=0,
)


def view(index: int, heartbeat: Heartbeat | None) -> ReplicaView:
    return ReplicaView(
        index=index,
        state=ReplicaState.READY,
        reason="",
        device_ids=("cpu",),
        reserved_bytes=1,
        pid=1,
        num_in_flight=0,
        progress=None,
        heartbeat=heartbeat,
        log_tail=[],
    )


def test_gauges_show_the_last_heartbeat_of_replicas_that_were_heard() -> None:
    beat = Heartbeat(num_steps=9, is_busy=True, num_running=3, num_waiting=2, num_free_blocks=10, num_blocks=40)
    registry = CollectorRegistry()
    registry.register(ReplicaMetrics(lambda: [(DEPLOYMENT, view(0, beat)), (DEPLOYMENT, view(1, None))]))
    text = generate_latest(registry).decode()
    labels = '{deployment="accounts/a/deployments/d",replica="0"}'
    assert f"hearth_kv_blocks_free{labels} 10.0" in text
    assert f"hearth_kv_blocks{labels} 40.0" in text
    assert f"hearth_requests_running{labels} 3.0" in text
    assert f"hearth_requests_waiting{labels} 2.0" in text
    assert 'replica="1"' not in text
