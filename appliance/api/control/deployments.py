"""Routes of deployments: create, look, change, scale, delete, undelete."""

from functools import partial

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.deployment_answer import (
    DeploymentAnswer,
    DeploymentShardList,
    render_deployment,
    render_shard,
)
from appliance.api.control.deployment_body import (
    Count,
    DeploymentBody,
    DeploymentUpdateBody,
    read_spec,
    read_update,
    refuse_other_regions,
)
from appliance.api.control.paging import flag, list_response, masked_response
from appliance.api.control.wire import Empty, Wire, decode
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Deployment
from appliance.errors import Code, HearthError
from appliance.names import last_segment
from appliance.services.access import can_look_inside


class ScaleBody(Wire, frozen=True, kw_only=True):
    replica_count: Count


class TerminationMessage(Wire, frozen=True, kw_only=True):
    message: str


async def create_deployment(request: web.Request) -> web.StreamResponse:
    """Deploy a model."""
    body = await decode(request, DeploymentBody)
    refuse_other_regions(body.placement, services(request).config.region)
    _accept_validation_flags(request)
    if flag(request, "acceptShapelessRisk") and body.deployment_shape:
        message = "acceptShapelessRisk: a deployment with a deploymentShape does not take that risk; leave out one"
        raise HearthError(Code.INVALID, message, "acceptShapelessRisk")
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
    return list_response(
        request, "deployments", DeploymentAnswer, deployments, partial(_render, request), default_order="createTime"
    )


async def get_deployment(request: web.Request) -> web.StreamResponse:
    """Get a deployment, with its replicas and the history of their number."""
    here = services(request)
    deployment = await here.deployments.get(principal(request), *named_deployment(request))
    if not can_look_inside(principal(request), deployment.account_id, here.config.identity):
        return masked_response(request, _render(request, deployment))
    supervisor = here.node.supervisor
    return masked_response(
        request,
        render_deployment(
            deployment,
            supervisor.replicas(deployment.account_id, deployment.id),
            here.config.region,
            cold_start=supervisor.outlook(deployment).cold_start,
            history=await here.deployments.history(deployment),
        ),
    )


async def update_deployment(request: web.Request) -> web.StreamResponse:
    """Change the fields that are present, or those that updateMask names; replicas are replaced one by one."""
    body, fields = await read_update(request)
    refuse_other_regions(body.placement, services(request).config.region)
    _accept_validation_flags(request)
    deployment = await services(request).deployments.update(
        principal(request),
        *named_deployment(request),
        read_spec(body),
        fields,
        validate_only=flag(request, "validateOnly"),
    )
    return json_response(_render(request, deployment))


async def scale_deployment(request: web.Request) -> web.StreamResponse:
    """Set how many replicas a deployment has."""
    body = await decode(request, ScaleBody)
    await services(request).deployments.scale(principal(request), *named_deployment(request), body.replica_count)
    return json_response(Empty())


async def delete_deployment(request: web.Request) -> web.StreamResponse:
    """Stop a deployment and delete it."""
    await services(request).deployments.delete(
        principal(request),
        *named_deployment(request),
        hard=flag(request, "hard"),
        ignore_checks=flag(request, "ignoreChecks"),
    )
    return json_response(Empty())


async def undelete_deployment(request: web.Request) -> web.StreamResponse:
    """Bring a deleted deployment back that is not purged yet."""
    await decode(request, Empty)
    deployment = await services(request).deployments.undelete(principal(request), *named_deployment(request))
    return json_response(_render(request, deployment))


async def list_shards(request: web.Request) -> web.StreamResponse:
    """Where a deployment runs: here."""
    deployment = await services(request).deployments.get(principal(request), *named_deployment(request))
    replicas = services(request).node.supervisor.replicas(deployment.account_id, deployment.id)
    shard = render_shard(deployment, replicas, services(request).config.region)
    return json_response(DeploymentShardList(deployment_shards=[shard], total_size=1))


async def get_termination_message(request: web.Request) -> web.StreamResponse:
    """The last words of the worker that made a deployment FAILED; empty when none did."""
    deployment = await services(request).deployments.get(principal(request), *named_deployment(request))
    if not can_look_inside(principal(request), deployment.account_id, services(request).config.identity):
        raise HearthError(Code.FORBIDDEN, f"the log of {deployment.name} is for those it belongs to")
    return json_response(TerminationMessage(message=deployment.termination_message))


def named_deployment(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["deployment_id"], account_id, "deployments", "deployment_id")


def _accept_validation_flags(request: web.Request) -> None:
    """True or false alike: this box's shapes are always valid, and there is one image of a worker."""
    for name in ("skipShapeValidation", "skipImageTagValidation"):
        flag(request, name)


def _render(request: web.Request, deployment: Deployment) -> DeploymentAnswer:
    replicas = services(request).node.supervisor.replicas(deployment.account_id, deployment.id)
    return render_deployment(deployment, replicas, services(request).config.region)


COLLECTION = "/v1/accounts/{account_id}/deployments"
DEPLOYMENT = "/v1/accounts/{account_id}/deployments/{deployment_id}"

ROUTES = [
    Route("POST", COLLECTION, create_deployment, Permission.WRITE, DeploymentBody),
    Route("GET", COLLECTION, list_deployments, Permission.READ),
    Route("GET", DEPLOYMENT, get_deployment, Permission.READ),
    Route("PATCH", DEPLOYMENT, update_deployment, Permission.WRITE, DeploymentUpdateBody),
    Route("DELETE", DEPLOYMENT, delete_deployment, Permission.WRITE),
    Route("PATCH", f"{DEPLOYMENT}:scale", scale_deployment, Permission.WRITE, ScaleBody),
    Route("POST", f"{DEPLOYMENT}:undelete", undelete_deployment, Permission.WRITE, Empty),
    Route("GET", f"{DEPLOYMENT}/shards", list_shards, Permission.READ),
    Route("GET", f"{DEPLOYMENT}/terminationMessage", get_termination_message, Permission.READ),
]
