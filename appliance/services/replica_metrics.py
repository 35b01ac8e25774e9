"""What workers say of themselves, as gauges: read from their latest heartbeats when Prometheus asks, stored nowhere."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.domain import Deployment
from appliance.orchestrator.supervisor import ReplicaView
from runtime.protocol import Heartbeat

ListReplicas = Callable[[], Iterable[tuple[Deployment, ReplicaView]]]

_GAUGES: list[tuple[str, str, Callable[[Heartbeat], int]]] = [
    ("hearth_requests_running", "Requests in the engine's batch", lambda beat: beat.num_running),
    ("hearth_requests_waiting", "Requests queued in the worker", lambda beat: beat.num_waiting),
    ("hearth_kv_blocks", "KV blocks of the replica", lambda beat: beat.num_blocks),
    ("hearth_kv_blocks_free", "KV blocks that a request could take now", lambda beat: beat.num_free_blocks),
]


class ReplicaMetrics(Collector):
    def __init__(self, list_replicas: ListReplicas) -> None:
        self._list_replicas = list_replicas

    def collect(self) -> Iterator[GaugeMetricFamily]:
        beats = [
            (deployment.name, str(view.index), view.heartbeat)
            for deployment, view in self._list_replicas()
            if view.heartbeat is not None
        ]
        for name, meaning, read in _GAUGES:
            family = GaugeMetricFamily(name, meaning, labels=["deployment", "replica"])
            for deployment_name, index, beat in beats:
                family.add_metric([deployment_name, index], read(beat))
            yield family
