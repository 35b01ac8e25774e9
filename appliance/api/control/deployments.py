"""Routes of deployments: create, look, change, scale, delete, undelete."""

from functools import partial
from typing import Annotated

import msgspec
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
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.wire import Empty, ResourceId, UpdateMask, Wire, decode, decode_query
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Deployment
from appliance.errors import Code, HearthError
from appliance.names import last_segment
from appliance.services.access import can_look_inside


class _ValidationFlags(Wire, frozen=True, kw_only=True):
    skip_shape_validation: Annotated[bool, msgspec.Meta(description="Numbers need not be those of the shape.")] = False
    skip_image_tag_validation: Annotated[bool, msgspec.Meta(description="There is one image, so nothing to skip.")] = (
        False
    )
    validate_only: Annotated[bool, msgspec.Meta(description="Show what would be, and change nothing.")] = False


class CreateDeploymentQuery(_ValidationFlags, frozen=True, kw_only=True):
    deployment_id: Annotated[ResourceId | None, msgspec.Meta(description="Made by the server when it is left out.")] = (
        None
    )
    disable_auto_deploy: Annotated[bool, msgspec.Meta(description="Do not deploy the base model on it.")] = False
    disable_speculative_decoding: Annotated[bool, msgspec.Meta(description="Nobody guesses tokens ahead.")] = False
    accept_shapeless_risk: bool = False


class UpdateDeploymentQuery(_ValidationFlags, frozen=True, kw_only=True):
    update_mask: UpdateMask = ""


class ListDeploymentsQuery(Wire, frozen=True, kw_only=True):
    show_deleted: Annotated[bool, msgspec.Meta(description="Those too that are not purged yet.")] = False


class DeleteDeploymentQuery(Wire, frozen=True, kw_only=True):
    hard: Annotated[bool, msgspec.Meta(description="Purge it at once: it cannot be brought back.")] = False
    ignore_checks: Annotated[bool, msgspec.Meta(description="Although it is in use.")] = False


class ScaleBody(Wire, frozen=True, kw_only=True):
    replica_count: Count


class TerminationMessage(Wire, frozen=True, kw_only=True):
    message: str


async def create_deployment(request: web.Request) -> web.StreamResponse:
    """Deploy a model."""
    body = await decode(request, DeploymentBody)
    refuse_other_regions(body.placement, services(request).config.region)
    query = decode_query(request, CreateDeploymentQuery)
    if query.accept_shapeless_risk and body.deployment_shape:
        message = "acceptShapelessRisk: a deployment with a deploymentShape does not take that risk; leave out one"
        raise HearthError(Code.INVALID, message, "acceptShapelessRisk")
    deployment = await services(request).deployments.create(
        principal(request),
        request.match_info["account_id"],
        query.deployment_id,
        read_spec(body, disables_speculation=query.disable_speculative_decoding),
        disable_auto_deploy=query.disable_auto_deploy,
        validate_only=query.validate_only,
        skips_shape_check=query.skip_shape_validation,
        takes_default_draft=not query.disable_speculative_decoding,
    )
    return json_response(_render(request, deployment))


async def list_deployments(request: web.Request) -> web.StreamResponse:
    """List the deployments of an account."""
    show_deleted = decode_query(request, ListDeploymentsQuery).show_deleted
    deployments = await services(request).deployments.list(
        principal(request), request.match_info["account_id"], show_deleted=show_deleted
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
    query = decode_query(request, UpdateDeploymentQuery)
    body, fields = await read_update(request, query.update_mask)
    refuse_other_regions(body.placement, services(request).config.region)
    deployment = await services(request).deployments.update(
        principal(request),
        *named_deployment(request),
        read_spec(body),
        fields,
        validate_only=query.validate_only,
        skips_shape_check=query.skip_shape_validation,
    )
    return json_response(_render(request, deployment))


async def scale_deployment(request: web.Request) -> web.StreamResponse:
    """Set how many replicas a deployment has."""
    body = await decode(request, ScaleBody)
    await services(request).deployments.scale(principal(request), *named_deployment(request), body.replica_count)
    return json_response(Empty())


async def delete_deployment(request: web.Request) -> web.StreamResponse:
    """Stop a deployment and delete it."""
    query = decode_query(request, DeleteDeploymentQuery)
    await services(request).deployments.delete(
        principal(request), *named_deployment(request), hard=query.hard, ignore_checks=query.ignore_checks
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


def _render(request: web.Request, deployment: Deployment) -> DeploymentAnswer:
    replicas = services(request).node.supervisor.replicas(deployment.account_id, deployment.id)
    return render_deployment(deployment, replicas, services(request).config.region)


COLLECTION = "/v1/accounts/{account_id}/deployments"
DEPLOYMENT = "/v1/accounts/{account_id}/deployments/{deployment_id}"

ROUTES = [
    Route(
        "POST",
        COLLECTION,
        create_deployment,
        Permission.WRITE,
        DeploymentBody,
        answer=DeploymentAnswer,
        query=CreateDeploymentQuery,
    ),
    Route(
        "GET",
        COLLECTION,
        list_deployments,
        Permission.READ,
        answer=DeploymentAnswer,
        plural="deployments",
        query=ListDeploymentsQuery,
    ),
    Route("GET", DEPLOYMENT, get_deployment, Permission.READ, answer=DeploymentAnswer),
    Route(
        "PATCH",
        DEPLOYMENT,
        update_deployment,
        Permission.WRITE,
        DeploymentUpdateBody,
        answer=DeploymentAnswer,
        query=UpdateDeploymentQuery,
    ),
    Route("DELETE", DEPLOYMENT, delete_deployment, Permission.WRITE, answer=Empty, query=DeleteDeploymentQuery),
    Route("PATCH", f"{DEPLOYMENT}:scale", scale_deployment, Permission.WRITE, ScaleBody, answer=Empty),
    Route("POST", f"{DEPLOYMENT}:undelete", undelete_deployment, Permission.WRITE, Empty, answer=DeploymentAnswer),
    Route("GET", f"{DEPLOYMENT}/shards", list_shards, Permission.READ, answer=DeploymentShardList),
    Route(
        "GET",
        f"{DEPLOYMENT}/terminationMessage",
        get_termination_message,
        Permission.READ,
        answer=TerminationMessage,
    ),
]
