"""Routes of deployment shapes: this box's presets, read-only, in the library account; and which of them fit a model."""

from collections.abc import Sequence

from aiohttp import web

from appliance.api.control.paging import flag, list_response, masked_response
from appliance.api.control.wire import Answer, Wire, decode
from appliance.api.routing import Permission, Route, principal, services
from appliance.names import last_segment
from appliance.services.access import not_found, require_account
from appliance.services.deployment_shapes import (
    COLLECTION,
    SHAPES,
    VERSION_ID,
    Shape,
    find_shape,
    shape_name,
    version_name,
)
from appliance.services.shape_matching import ShapeFit

ANY_SHAPE = "-"


class DeploymentShapeAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    preset_type: str
    base_model: str
    """Empty, with all that follows from a model, where none is named: a shape is for every model."""
    model_type: str | None = None
    parameter_count: str | None = None
    accelerator_type: str | None = None
    accelerator_count: int | None = None
    precision: str | None = None
    max_context_length: int | None = None
    enable_addons: bool | None = None
    num_lora_device_cached: int | None = None
    memory_bytes: str | None = None
    """Ours: what a replica would take of each device."""


class DeploymentShapeVersion(Answer, frozen=True, kw_only=True):
    name: str
    snapshot: DeploymentShapeAnswer
    validated: bool
    public: bool
    latest_validated: bool


class MatchedDeployment(Wire, frozen=True, kw_only=True):
    base_model: str
    enable_addons: bool | None = None


class CreateDeploymentRequest(Wire, frozen=True, kw_only=True):
    deployment: MatchedDeployment
    parent: str | None = None


class MatchBody(Wire, frozen=True, kw_only=True):
    create_deployment_request: CreateDeploymentRequest


async def list_shapes(request: web.Request) -> web.StreamResponse:
    """List the shapes of an account; with targetModel, those that fit it, with its numbers."""
    account_id, model_name = request.match_info["account_id"], request.query.get("targetModel", "")
    found = _own_shapes(request, account_id)
    if found and model_name:
        fits = await services(request).deployment_shapes.match(
            principal(request), account_id, model_name, "targetModel", enable_addons=False
        )
        answers = [_render_fit(request, fit) for fit in fits]
    else:
        answers = [_render_shape(request, shape) for shape in found]
    return list_response(request, "deploymentShapes", DeploymentShapeAnswer, answers, lambda answer: answer)


async def get_shape(request: web.Request) -> web.StreamResponse:
    """Get a shape."""
    flag(request, "skipShapeValidation")  # there is none to skip
    return masked_response(request, _render_shape(request, _named_shape(request)))


async def list_versions(request: web.Request) -> web.StreamResponse:
    """List the versions of a shape, or of all shapes (`-`); each has one."""
    account_id = request.match_info["account_id"]
    named = request.match_info["deployment_shape_id"] != ANY_SHAPE
    found = [_named_shape(request)] if named else _own_shapes(request, account_id)
    return _answer_versions(request, [_render_version(request, shape) for shape in found])


async def get_version(request: web.Request) -> web.StreamResponse:
    """Get a version of a shape."""
    shape, version_id = _named_shape(request), request.match_info["version_id"]
    version = _render_version(request, shape)
    if version_id not in (VERSION_ID, version.name):
        raise not_found(f"{_shape_name(request, shape)}/versions/{version_id}")
    return masked_response(request, version)


async def match_versions(request: web.Request) -> web.StreamResponse:
    """The shapes that a deployment of a model could be created with here, with the numbers it would have."""
    asked = (await decode(request, MatchBody)).create_deployment_request.deployment
    fits = await services(request).deployment_shapes.match(
        principal(request),
        request.match_info["account_id"],
        asked.base_model,
        "createDeploymentRequest.deployment.baseModel",
        enable_addons=asked.enable_addons or False,
    )
    return _answer_versions(request, [_render_version(request, fit.shape, _render_fit(request, fit)) for fit in fits])


def _answer_versions(request: web.Request, versions: Sequence[DeploymentShapeVersion]) -> web.Response:
    return list_response(request, "deploymentShapeVersions", DeploymentShapeVersion, versions, lambda version: version)


def _own_shapes(request: web.Request, account_id: str) -> Sequence[Shape]:
    """The library's are all that there are."""
    settings = services(request).config.identity
    require_account(principal(request), account_id, settings)
    return SHAPES if account_id == settings.library_account_id else ()


def _named_shape(request: web.Request) -> Shape:
    account_id, segment = request.match_info["account_id"], request.match_info["deployment_shape_id"]
    shape_id = last_segment(segment, account_id, COLLECTION, "deployment_shape_id")
    shape = find_shape(shape_id) if _own_shapes(request, account_id) else None
    if shape is None:
        raise not_found(f"accounts/{account_id}/{COLLECTION}/{shape_id}")
    return shape


def _shape_name(request: web.Request, shape: Shape) -> str:
    return shape_name(shape, services(request).config.identity.library_account_id)


def _render_shape(request: web.Request, shape: Shape) -> DeploymentShapeAnswer:
    return DeploymentShapeAnswer(
        name=_shape_name(request, shape),
        display_name=shape.display_name,
        description=shape.description,
        preset_type=shape.preset,
        base_model="",
    )


def _render_fit(request: web.Request, fit: ShapeFit) -> DeploymentShapeAnswer:
    info, fleet = fit.model.info, services(request).config.fleet
    assert info is not None, "a model without it fits nothing"
    return DeploymentShapeAnswer(
        name=_shape_name(request, fit.shape),
        display_name=fit.shape.display_name,
        description=fit.shape.description,
        preset_type=fit.shape.preset,
        base_model=fit.model.name,
        model_type=info.model_type,
        parameter_count=str(info.num_parameters),
        accelerator_type=fit.accelerator_type,
        accelerator_count=fit.accelerator_count,
        precision=fit.precision,
        max_context_length=fit.max_context_length,
        enable_addons=fit.enable_addons,
        num_lora_device_cached=fleet.addons_max if fit.enable_addons else None,
        memory_bytes=str(fit.num_bytes),
    )


def _render_version(
    request: web.Request, shape: Shape, snapshot: DeploymentShapeAnswer | None = None
) -> DeploymentShapeVersion:
    return DeploymentShapeVersion(
        name=version_name(shape, services(request).config.identity.library_account_id),
        snapshot=snapshot or _render_shape(request, shape),
        validated=True,
        public=True,
        latest_validated=True,
    )


SHAPE_LIST = "/v1/accounts/{account_id}/deploymentShapes"
SHAPE = "/v1/accounts/{account_id}/deploymentShapes/{deployment_shape_id}"

ROUTES = [
    Route("GET", SHAPE_LIST, list_shapes, Permission.READ),
    Route("GET", SHAPE, get_shape, Permission.READ),
    Route("GET", f"{SHAPE}/versions", list_versions, Permission.READ),
    Route("GET", f"{SHAPE}/versions/{{version_id}}", get_version, Permission.READ),
    Route(
        "POST", "/v1/accounts/{account_id}/deploymentShapeVersions:match", match_versions, Permission.READ, MatchBody
    ),
]
