"""Routes of deployed models: load a LoRA addon onto a deployment, see where a model is served, unload it."""

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import Answer, Empty, NotServed, Status, Wire, decode, decode_query, render_time
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import DeployedModel, DeployedModelState
from appliance.names import last_segment
from appliance.services.deployed_models import DeployedModelSpec


class DeployedModelBody(Wire, frozen=True, kw_only=True):
    model: str | None = None
    deployment: str | None = None
    display_name: str | None = None
    description: str | None = None
    default: bool | None = None
    public: bool | None = None
    serverless: NotServed = None


class CreateDeployedModelQuery(Wire, frozen=True, kw_only=True):
    replace_merged_addon: NotServed = None


class DeployedModelAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    model: str
    deployment: str
    default: bool
    state: str
    status: Status
    public: bool
    create_time: str | None = None
    update_time: str | None = None


class DeployedModelRef(Answer, frozen=True, kw_only=True):
    """What a model shows of each place where it is served."""

    name: str
    deployment: str
    state: str
    default: bool
    public: bool


async def create_deployed_model(request: web.Request) -> web.StreamResponse:
    """Load a LoRA addon onto a deployment, or deploy a base model on one that does not carry its name."""
    decode_query(request, CreateDeployedModelQuery)
    spec = read_spec(await decode(request, DeployedModelBody))
    account_id = request.match_info["account_id"]
    deployed = await services(request).deployed_models.create(principal(request), account_id, spec)
    return json_response(render_deployed_model(deployed))


async def list_deployed_models(request: web.Request) -> web.StreamResponse:
    """List the deployed models of an account."""
    listed = await services(request).deployed_models.list(principal(request), request.match_info["account_id"])
    return list_response(request, "deployedModels", DeployedModelAnswer, listed, render_deployed_model)


async def get_deployed_model(request: web.Request) -> web.StreamResponse:
    """Get a deployed model."""
    deployed = await services(request).deployed_models.get(principal(request), *_name(request))
    return masked_response(request, render_deployed_model(deployed))


async def update_deployed_model(request: web.Request) -> web.StreamResponse:
    """Rename a deployed model, publish it, or make it the default of its model."""
    spec = read_spec(masked_update(request, await decode(request, DeployedModelBody)))
    deployed = await services(request).deployed_models.update(principal(request), *_name(request), spec)
    return json_response(render_deployed_model(deployed))


async def delete_deployed_model(request: web.Request) -> web.StreamResponse:
    """Unload a LoRA addon, or take a model's name from a deployment."""
    await services(request).deployed_models.delete(principal(request), *_name(request))
    return json_response(Empty())


def read_spec(body: DeployedModelBody) -> DeployedModelSpec:
    return DeployedModelSpec(
        model=body.model or None,
        deployment=body.deployment or None,
        display_name=body.display_name,
        description=body.description,
        is_default=body.default,
        is_public=body.public,
    )


def render_deployed_model(deployed: DeployedModel) -> DeployedModelAnswer:
    return DeployedModelAnswer(
        name=deployed.name,
        display_name=deployed.display_name,
        description=deployed.description,
        model=deployed.model,
        deployment=deployed.deployment,
        default=deployed.is_default,
        state=_state(deployed),
        status=_status(deployed),
        public=deployed.is_public,
        create_time=render_time(deployed.created_at),
        update_time=render_time(deployed.updated_at),
    )


def render_ref(deployed: DeployedModel) -> DeployedModelRef:
    return DeployedModelRef(
        name=deployed.name,
        deployment=deployed.deployment,
        state=_state(deployed),
        default=deployed.is_default,
        public=deployed.is_public,
    )


def _state(deployed: DeployedModel) -> str:
    """The API has no state for what failed; clients take the neutral one for it."""
    has_failed = deployed.has_failed and deployed.state is DeployedModelState.DEPLOYING
    return "STATE_UNSPECIFIED" if has_failed else deployed.state


def _status(deployed: DeployedModel) -> Status:
    if not deployed.status_message:
        return Status()
    return Status(code="INVALID_ARGUMENT" if deployed.has_failed else "UNAVAILABLE", message=deployed.status_message)


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id, segment = request.match_info["account_id"], request.match_info["deployed_model_id"]
    return account_id, last_segment(segment, account_id, "deployedModels", "deployed_model_id")


COLLECTION = "/v1/accounts/{account_id}/deployedModels"
DEPLOYED_MODEL = "/v1/accounts/{account_id}/deployedModels/{deployed_model_id}"

ROUTES = [
    Route(
        "POST",
        COLLECTION,
        create_deployed_model,
        Permission.WRITE,
        DeployedModelBody,
        answer=DeployedModelAnswer,
        query=CreateDeployedModelQuery,
    ),
    Route(
        "GET", COLLECTION, list_deployed_models, Permission.READ, answer=DeployedModelAnswer, plural="deployedModels"
    ),
    Route("GET", DEPLOYED_MODEL, get_deployed_model, Permission.READ, answer=DeployedModelAnswer),
    Route(
        "PATCH",
        DEPLOYED_MODEL,
        update_deployed_model,
        Permission.WRITE,
        DeployedModelBody,
        answer=DeployedModelAnswer,
    ),
    Route("DELETE", DEPLOYED_MODEL, delete_deployed_model, Permission.WRITE, answer=Empty),
]
