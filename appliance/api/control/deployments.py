"""Routes of deployments: create, look, scale, delete. Replica counts are what the supervisor sees at this moment."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.codec import json_response
from appliance.api.control.paging import flag, refuse_query, take_page
from appliance.api.control.wire import (
    Answer,
    Empty,
    NotServed,
    Status,
    Wire,
    decode,
    is_neutral,
    parse_enum,
    render_time,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Deployment, DeploymentState, Precision, ReplicaState
from appliance.errors import Code, HearthError
from appliance.names import last_segment
from appliance.orchestrator.supervisor import ReplicaView
from appliance.services.deployments import DeploymentSpec

GLOBAL = "GLOBAL"
"""The multi-region that means every box, so this one."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class PlacementBody(Wire, frozen=True, kw_only=True):
    region: str | None = None
    multi_region: str | None = None
    regions: list[str] | None = None


class DeploymentBody(Wire, frozen=True, kw_only=True):
    base_model: str
    display_name: str | None = None
    description: str | None = None
    annotations: dict[str, str] | None = None
    min_replica_count: Count | None = None
    max_replica_count: Count | None = None
    accelerator_type: str | None = None
    accelerator_count: Count | None = None
    precision: str | None = None
    max_context_length: Count | None = None
    draft_model: str | None = None
    draft_token_count: Count | None = None
    ngram_speculation_length: Count | None = None
    placement: PlacementBody | None = None
    active_model_version: NotServed = None
    auto_tune: NotServed = None
    autoscaling_policy: NotServed = None
    deployment_shape: NotServed = None
    deployment_template: NotServed = None
    direct_route_api_keys: NotServed = None
    direct_route_type: NotServed = None
    disable_deployment_size_validation: NotServed = None
    enable_addons: NotServed = None
    enable_hot_load: NotServed = None
    enable_hot_reload_latest_addon: NotServed = None
    enable_mtp: NotServed = None
    expire_time: NotServed = None
    hot_load_bucket_type: NotServed = None
    hot_load_bucket_url: NotServed = None
    hot_load_trainer_job: NotServed = None
    max_with_revocable_replica_count: NotServed = None
    num_peft_device_cached: NotServed = None
    pricing_plan_id: NotServed = None
    target_model_version: NotServed = None


class ScaleBody(Wire, frozen=True, kw_only=True):
    replica_count: Count


class ReplicaStats(Wire, frozen=True, kw_only=True):
    pending_scheduling_replica_count: int = 0
    downloading_model_replica_count: int = 0
    initializing_replica_count: int = 0
    ready_replica_count: int = 0


class DeploymentAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    base_model: str
    state: str
    status: Status
    annotations: dict[str, str]
    min_replica_count: int
    max_replica_count: int
    desired_replica_count: int
    replica_count: int
    replica_stats: ReplicaStats
    accelerator_type: str | None = None
    accelerator_count: int
    precision: str | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    enable_session_affinity: bool
    region: str
    create_time: str | None = None
    update_time: str | None = None
    delete_time: str | None = None
    purge_time: str | None = None


class DeploymentList(Wire, frozen=True, kw_only=True):
    deployments: list[DeploymentAnswer]
    next_page_token: str
    total_size: int


async def create_deployment(request: web.Request) -> web.StreamResponse:
    """Deploy a model."""
    body = await decode(request, DeploymentBody)
    refuse_other_regions(body.placement, services(request).config.region)
    deployment = await services(request).deployments.create(
        principal(request),
        request.match_info["account_id"],
        request.query.get("deploymentId") or None,
        read_spec(body, disables_speculation=flag(request, "disableSpeculativeDecoding")),
        disable_auto_deploy=flag(request, "disableAutoDeploy"),
        validate_only=flag(request, "validateOnly"),
    )
    return json_response(_render(request, deployment))


async def list_deployments(request: web.Request) -> web.StreamResponse:
    """List the deployments of an account."""
    deployments = await services(request).deployments.list(
        principal(request), request.match_info["account_id"], show_deleted=flag(request, "showDeleted")
    )
    page = take_page(request, deployments, sort_key=_creation_order)
    return json_response(
        DeploymentList(
            deployments=[_render(request, deployment) for deployment in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )
    )


async def get_deployment(request: web.Request) -> web.StreamResponse:
    """Get a deployment."""
    refuse_query(request, "readMask")
    deployment = await services(request).deployments.get(principal(request), *_name(request))
    return json_response(_render(request, deployment))


async def scale_deployment(request: web.Request) -> web.StreamResponse:
    """Set how many replicas a deployment has."""
    body = await decode(request, ScaleBody)
    await services(request).deployments.scale(principal(request), *_name(request), body.replica_count)
    return json_response(Empty())


async def delete_deployment(request: web.Request) -> web.StreamResponse:
    """Stop a deployment and delete it."""
    await services(request).deployments.delete(
        principal(request), *_name(request), hard=flag(request, "hard"), ignore_checks=flag(request, "ignoreChecks")
    )
    return json_response(Empty())


def read_spec(body: DeploymentBody, *, disables_speculation: bool = False) -> DeploymentSpec:
    """Zero and empty mean "not said", as everywhere in this API, except where zero replicas are meant."""
    accelerator_type = body.accelerator_type or ""
    if disables_speculation:
        body = replace(body, draft_model=None, draft_token_count=None, ngram_speculation_length=None)
    return DeploymentSpec(
        base_model=body.base_model,
        display_name=body.display_name or "",
        description=body.description or "",
        annotations=body.annotations or {},
        min_replica_count=body.min_replica_count or 0,
        max_replica_count=body.max_replica_count,
        accelerator_type=None if is_neutral(accelerator_type) else accelerator_type,
        accelerator_count=body.accelerator_count or 1,
        precision=parse_enum(Precision, body.precision, "precision"),
        max_context_length=body.max_context_length or None,
        draft_model=body.draft_model or None,
        draft_token_count=body.draft_token_count or None,
        ngram_speculation_length=body.ngram_speculation_length or None,
    )


def refuse_other_regions(placement: PlacementBody | None, region: str) -> None:
    """There is one region: that of this box."""
    if placement is None:
        return
    asked = {"placement.region": [placement.region or ""], "placement.multiRegion": [placement.multi_region or ""]}
    for param, names in (asked | {"placement.regions": placement.regions or []}).items():
        for name in names:
            if not is_neutral(name) and name not in (region, GLOBAL):
                raise HearthError(Code.INVALID, f"{param}: {name!r} is not here; this box is {region}", param)


def render_deployment(deployment: Deployment, replicas: Sequence[ReplicaView], region: str) -> DeploymentAnswer:
    stats = count_replicas(deployment, replicas)
    return DeploymentAnswer(
        name=deployment.name,
        display_name=deployment.display_name,
        description=deployment.description,
        base_model=deployment.base_model,
        state=deployment.state,
        status=_render_status(deployment, replicas, stats),
        annotations=deployment.annotations,
        min_replica_count=deployment.min_replica_count,
        max_replica_count=deployment.max_replica_count,
        desired_replica_count=deployment.desired_replica_count,
        replica_count=stats.ready_replica_count,
        replica_stats=stats,
        accelerator_type=deployment.accelerator_type,
        accelerator_count=deployment.accelerator_count,
        precision=deployment.precision,
        max_context_length=deployment.max_context_length,
        draft_model=deployment.draft_model,
        draft_token_count=deployment.draft_token_count,
        ngram_speculation_length=deployment.ngram_speculation_length,
        enable_session_affinity=True,
        region=region,
        create_time=render_time(deployment.created_at),
        update_time=render_time(deployment.updated_at),
        delete_time=render_time(deployment.deleted_at),
        purge_time=render_time(deployment.purge_at),
    )


def count_replicas(deployment: Deployment, replicas: Sequence[ReplicaView]) -> ReplicaStats:
    """Each desired replica in one of three stages; one that gave up is in none."""
    states = Counter(replica.state for replica in replicas if replica.index < deployment.desired_replica_count)
    return ReplicaStats(
        pending_scheduling_replica_count=max(0, deployment.desired_replica_count - states.total()),
        downloading_model_replica_count=0,
        initializing_replica_count=states[ReplicaState.STARTING] + states[ReplicaState.LOADING],
        ready_replica_count=states[ReplicaState.READY],
    )


def _render_status(deployment: Deployment, replicas: Sequence[ReplicaView], stats: ReplicaStats) -> Status:
    if deployment.state is DeploymentState.FAILED:
        return Status(code="INTERNAL", message=deployment.status_message)
    if stats.pending_scheduling_replica_count and deployment.status_message:
        return Status(code="RESOURCE_EXHAUSTED", message=deployment.status_message)
    return Status(message=deployment.status_message or _loading_message(replicas))


def _loading_message(replicas: Sequence[ReplicaView]) -> str:
    """How far the loads under way are."""
    return "; ".join(
        f"replica {replica.index}: {replica.progress.stage} {replica.progress.fraction:.0%}"
        for replica in replicas
        if replica.state is ReplicaState.LOADING and replica.progress is not None
    )


def _render(request: web.Request, deployment: Deployment) -> DeploymentAnswer:
    replicas = services(request).node.supervisor.replicas(deployment.account_id, deployment.id)
    return render_deployment(deployment, replicas, services(request).config.region)


def _creation_order(deployment: Deployment) -> str:
    return f"{deployment.created_at:020.6f} {deployment.id}"


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["deployment_id"], account_id, "deployments", "deployment_id")


COLLECTION = "/v1/accounts/{account_id}/deployments"
DEPLOYMENT = "/v1/accounts/{account_id}/deployments/{deployment_id}"

ROUTES = [
    Route("POST", COLLECTION, create_deployment, Permission.WRITE, DeploymentBody),
    Route("GET", COLLECTION, list_deployments, Permission.READ),
    Route("GET", DEPLOYMENT, get_deployment, Permission.READ),
    Route("DELETE", DEPLOYMENT, delete_deployment, Permission.WRITE),
    Route("PATCH", f"{DEPLOYMENT}:scale", scale_deployment, Permission.WRITE, ScaleBody),
]
