"""The route that tells what a deployment has carried of late."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.control.deployments import named_deployment
from appliance.api.control.durations import parse_duration
from appliance.api.control.paging import masked_response
from appliance.api.control.wire import Answer, Wire, decode_query
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import ReplicaState
from appliance.errors import Code, HearthError
from appliance.orchestrator.scaling import replica_share
from appliance.services.deployment_metrics import deployment_metrics
from appliance.services.loads import KEPT_S

TIME_RANGE_DEFAULT = "10m"


class MetricsQuery(Wire, frozen=True, kw_only=True):
    time_range: Annotated[
        str, msgspec.Meta(description="Over which averages are taken; 10m when left out.", examples=["90s", "10m"])
    ] = ""


class DeploymentMetricsAnswer(Answer, frozen=True, kw_only=True):
    metrics: dict[str, float]


async def show_deployment_metrics(request: web.Request) -> web.StreamResponse:
    """Averages over `timeRange` (10m when it is left out); times in milliseconds."""
    span_s = read_time_range(decode_query(request, MetricsQuery).time_range)
    deployment = await services(request).deployments.get(principal(request), *named_deployment(request))
    node = services(request).node
    replicas = node.supervisor.replicas(deployment.account_id, deployment.id)
    window = node.loads.window(deployment.name, span_s)
    beats = [replica.heartbeat for replica in replicas if replica.heartbeat is not None]
    share = replica_share(beats, window.concurrent_requests, services(request).config.fleet.max_num_requests)
    num_ready = sum(replica.state is ReplicaState.READY for replica in replicas)
    return masked_response(request, DeploymentMetricsAnswer(metrics=deployment_metrics(window, num_ready, share)))


def read_time_range(text: str) -> float:
    """Such as `90s` or `10m`; raises `invalid` for more than is kept."""
    span_s = parse_duration(text or TIME_RANGE_DEFAULT, "timeRange")
    if not 1 <= span_s <= KEPT_S:
        raise HearthError(Code.INVALID, f"timeRange: between 1s and {KEPT_S // 60}m, not {text[:40]}", "timeRange")
    return span_s


PATH = "/v1/accounts/{account_id}/deployments/{deployment_id}:metrics"

ROUTES = [
    Route("GET", PATH, show_deployment_metrics, Permission.READ, answer=DeploymentMetricsAnswer, query=MetricsQuery)
]
