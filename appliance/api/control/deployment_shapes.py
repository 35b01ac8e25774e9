"""Routes of deployment shapes: this box's presets in the library account, and those that accounts make themselves."""

import re
from collections.abc import Collection, Sequence
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import decode_json, json_response, read_body
from appliance.api.control.deployment_shape_answer import (
    DeploymentShapeAnswer,
    DeploymentShapeVersionAnswer,
    render_fit,
    render_own,
    render_own_version,
    render_preset,
    render_preset_version,
)
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.update_masks import fields_to_change, masked_update
from appliance.api.control.wire import (
    Empty,
    NotServed,
    ResourceId,
    Wire,
    decode,
    decode_query,
    is_neutral,
    parse_enum,
    refuse_not_served,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import DeploymentShape, Precision, ShapePreset
from appliance.errors import Code, HearthError
from appliance.names import last_segment
from appliance.services.access import not_found
from appliance.services.deployment_shapes import COLLECTION, SHAPES, VERSION_ID, Shape, find_shape, version_name
from appliance.services.own_shapes import WIRE_NAMES, ShapeSpec

ANY_SHAPE = "-"
_VERSION_ID = re.compile(r"v([1-9][0-9]{0,8})")


class ShapeBody(Wire, frozen=True, kw_only=True):
    base_model: Annotated[str | None, msgspec.Meta(description="Required for a new one.")] = None
    display_name: str | None = None
    description: str | None = None
    preset_type: str | None = None
    accelerator_type: str | None = None
    accelerator_count: int | None = None
    precision: str | None = None
    max_context_length: int | None = None
    draft_model: str | None = None
    draft_token_count: int | None = None
    ngram_speculation_length: int | None = None
    kv_cache_fraction: float | None = None
    enable_addons: bool | None = None
    enable_session_affinity: bool | None = None
    disable_deployment_size_validation: NotServed = None
    disable_speculative_decoding: NotServed = None
    num_lora_device_cached: NotServed = None


class VersionBody(Wire, frozen=True, kw_only=True):
    public: Annotated[bool | None, msgspec.Meta(description="Whether other accounts may see and use it.")] = None
    validated: bool | None = None


class NewShape(Wire, frozen=True, kw_only=True):
    """Query of a creation."""

    deployment_shape_id: Annotated[ResourceId | None, msgspec.Meta(description="Default: one that is made up.")] = None


class ShapesQuery(Wire, frozen=True, kw_only=True):
    target_model: Annotated[
        str | None, msgspec.Meta(description="Only those that fit this model, with the numbers it would have.")
    ] = None


class ShapeQuery(Wire, frozen=True, kw_only=True):
    skip_shape_validation: Annotated[bool, msgspec.Meta(description="Without effect: every shape is valid.")] = False


class ChangedShape(Wire, frozen=True, kw_only=True):
    from_latest_validated: Annotated[
        bool, msgspec.Meta(description="Without effect: the newest version is the newest valid one.")
    ] = False


class MatchedDeployment(Wire, frozen=True, kw_only=True):
    base_model: str
    enable_addons: bool | None = None


class CreateDeploymentRequest(Wire, frozen=True, kw_only=True):
    deployment: MatchedDeployment
    parent: str | None = None


class MatchBody(Wire, frozen=True, kw_only=True):
    create_deployment_request: CreateDeploymentRequest


async def create_deployment_shape(request: web.Request) -> web.StreamResponse:
    """Create a shape: options that deployments of a model take over by naming it."""
    spec, fields = await _read_shape(request)
    shape = await services(request).own_shapes.create(
        principal(request),
        request.match_info["account_id"],
        decode_query(request, NewShape).deployment_shape_id,
        spec,
        fields,
    )
    return json_response(render_own(shape))


async def list_deployment_shapes(request: web.Request) -> web.StreamResponse:
    """List the shapes of an account; those of the library are this box's presets."""
    account_id, model_name = request.match_info["account_id"], decode_query(request, ShapesQuery).target_model
    answers = [render_own(shape) for shape in await _own_shapes(request, account_id, model_name)]
    if _is_library(request, account_id):
        answers += await _presets_for(request, model_name) if model_name else [_render(request, s) for s in SHAPES]
    return list_response(request, "deploymentShapes", DeploymentShapeAnswer, answers, lambda answer: answer)


async def get_deployment_shape(request: web.Request) -> web.StreamResponse:
    """Get a shape, as its newest version is."""
    decode_query(request, ShapeQuery)
    account_id, shape_id = _name(request)
    preset = _find_preset(request, account_id, shape_id)
    if preset is not None:
        return masked_response(request, _render(request, preset))
    return masked_response(
        request, render_own(await services(request).own_shapes.get(principal(request), account_id, shape_id))
    )


async def update_deployment_shape(request: web.Request) -> web.StreamResponse:
    """Make a new version of a shape; deployments keep the version that they were made with.

    Only the fields that are present change, or those that updateMask names; what it names and the body lacks goes back
    to its default.
    """
    decode_query(request, ChangedShape)
    spec, fields = await _read_shape(request)
    mask = fields_to_change(request, WIRE_NAMES.values())
    if mask is not None:
        fields = [name for name, wire_name in WIRE_NAMES.items() if wire_name in mask]
    shape = await services(request).own_shapes.update(principal(request), *_own_name(request), spec, fields)
    return json_response(render_own(shape))


async def delete_deployment_shape(request: web.Request) -> web.StreamResponse:
    """Delete a shape with all its versions; deployments keep what they took over."""
    await services(request).own_shapes.delete(principal(request), *_own_name(request))
    return json_response(Empty())


async def list_deployment_shape_versions(request: web.Request) -> web.StreamResponse:
    """List the versions of a shape, or of all shapes (`-`)."""
    account_id = request.match_info["account_id"]
    if request.match_info["deployment_shape_id"] == ANY_SHAPE:
        shape_id, presets = None, list(SHAPES) if _is_library(request, account_id) else []
    else:
        _, shape_id = _name(request)
        preset = _find_preset(request, account_id, shape_id)
        presets = [] if preset is None else [preset]
    answers = [render_preset_version(preset, _library(request)) for preset in presets]
    if shape_id is None or not presets:
        found = await services(request).own_shapes.list_versions(principal(request), account_id, shape_id)
        answers += _render_versions(found)
    return _answer_versions(request, answers)


async def get_deployment_shape_version(request: web.Request) -> web.StreamResponse:
    """Get a version of a shape."""
    account_id, shape_id = _name(request)
    preset = _find_preset(request, account_id, shape_id)
    if preset is not None:
        if request.match_info["version_id"] not in (VERSION_ID, version_name(preset, _library(request))):
            raise not_found(f"accounts/{account_id}/{COLLECTION}/{shape_id}/versions/…")
        return masked_response(request, render_preset_version(preset, _library(request)))
    number = _number(request)
    shapes = services(request).own_shapes
    shape = await shapes.get(principal(request), account_id, shape_id, number)
    newest = await shapes.get(principal(request), account_id, shape_id)
    return masked_response(request, render_own_version(shape, is_newest=newest.number == number))


async def update_deployment_shape_version(request: web.Request) -> web.StreamResponse:
    """Let other accounts see and use a version of a shape, or no longer."""
    body = masked_update(request, await decode(request, VersionBody))
    if body.validated is False:
        raise HearthError(Code.INVALID, "validated: every version was validated when it was made", "validated")
    account_id, shape_id = _own_name(request)
    shapes, number = services(request).own_shapes, _number(request)
    if body.public is None:
        shape = await shapes.get(principal(request), account_id, shape_id, number)
    else:
        shape = await shapes.publish(principal(request), account_id, shape_id, number, body.public)
    newest = await shapes.get(principal(request), account_id, shape_id)
    return json_response(render_own_version(shape, is_newest=newest.number == number))


async def match_deployment_shape_versions(request: web.Request) -> web.StreamResponse:
    """The presets that a deployment of a model could be created with here, with the numbers it would have."""
    asked = (await decode(request, MatchBody)).create_deployment_request.deployment
    fits = await services(request).deployment_shapes.match(
        principal(request),
        request.match_info["account_id"],
        asked.base_model,
        "createDeploymentRequest.deployment.baseModel",
        enable_addons=asked.enable_addons or False,
    )
    library, addons_max = _library(request), services(request).config.fleet.addons_max
    return _answer_versions(
        request,
        [render_preset_version(fit.shape, library, render_fit(fit, library, addons_max)) for fit in fits],
    )


async def _read_shape(request: web.Request) -> tuple[ShapeSpec, Collection[str]]:
    """What is sent, and which of its fields are."""
    content = await read_body(request) or b"{}"
    body = decode_json(content, ShapeBody)
    refuse_not_served(body)
    sent = msgspec.json.decode(content)
    spec = ShapeSpec(
        base_model=body.base_model or "",
        display_name=body.display_name or "",
        description=body.description or "",
        preset=parse_enum(ShapePreset, body.preset_type, "presetType"),
        accelerator_type=None if is_neutral(body.accelerator_type) else body.accelerator_type,
        accelerator_count=body.accelerator_count or 1,
        precision=parse_enum(Precision, body.precision, "precision"),
        max_context_length=body.max_context_length or None,
        draft_model=body.draft_model or None,
        draft_token_count=body.draft_token_count or None,
        ngram_speculation_length=body.ngram_speculation_length or None,
        kv_cache_fraction=body.kv_cache_fraction or None,
        enable_addons=body.enable_addons or False,
        enable_session_affinity=body.enable_session_affinity is not False,
    )
    return spec, [name for name, wire_name in WIRE_NAMES.items() if wire_name in sent]


async def _own_shapes(request: web.Request, account_id: str, model_name: str | None) -> list[DeploymentShape]:
    shapes = await services(request).own_shapes.list(principal(request), account_id)
    return [s for s in shapes if model_name is None or model_name in (s.base_model, s.base_model.rpartition("/")[2])]


async def _presets_for(request: web.Request, model_name: str) -> list[DeploymentShapeAnswer]:
    fits = await services(request).deployment_shapes.match(
        principal(request), _library(request), model_name, "targetModel", enable_addons=False
    )
    addons_max = services(request).config.fleet.addons_max
    return [render_fit(fit, _library(request), addons_max) for fit in fits]


def _answer_versions(request: web.Request, versions: Sequence[DeploymentShapeVersionAnswer]) -> web.Response:
    return list_response(
        request, "deploymentShapeVersions", DeploymentShapeVersionAnswer, versions, lambda version: version
    )


def _render_versions(shapes: Sequence[DeploymentShape]) -> list[DeploymentShapeVersionAnswer]:
    newest: dict[str, int] = {}
    for shape in shapes:
        newest.setdefault(shape.id, shape.number)
    return [render_own_version(shape, is_newest=shape.number == newest[shape.id]) for shape in shapes]


def _render(request: web.Request, preset: Shape) -> DeploymentShapeAnswer:
    return render_preset(preset, _library(request))


def _library(request: web.Request) -> str:
    return services(request).config.identity.library_account_id


def _is_library(request: web.Request, account_id: str) -> bool:
    return account_id == _library(request)


def _find_preset(request: web.Request, account_id: str, shape_id: str) -> Shape | None:
    return find_shape(shape_id) if _is_library(request, account_id) else None


def _name(request: web.Request) -> tuple[str, str]:
    account_id, segment = request.match_info["account_id"], request.match_info["deployment_shape_id"]
    return account_id, last_segment(segment, account_id, COLLECTION, "deployment_shape_id")


def _own_name(request: web.Request) -> tuple[str, str]:
    account_id, shape_id = _name(request)
    if _find_preset(request, account_id, shape_id) is not None:
        raise HearthError(Code.FORBIDDEN, f"{shape_id} is a preset of this box and does not change")
    return account_id, shape_id


def _number(request: web.Request) -> int:
    """Of the version that the path names, by its id or its full name."""
    text = request.match_info["version_id"].rpartition("/")[2]
    match = _VERSION_ID.fullmatch(text)
    if match is None:
        raise not_found(f"version {text[:40]!r}")
    return int(match[1])


SHAPES_PATH = "/v1/accounts/{account_id}/deploymentShapes"
SHAPE = f"{SHAPES_PATH}/{{deployment_shape_id}}"
VERSION = f"{SHAPE}/versions/{{version_id}}"
MATCH = "/v1/accounts/{account_id}/deploymentShapeVersions:match"
_SHAPE, _VERSION = DeploymentShapeAnswer, DeploymentShapeVersionAnswer

ROUTES = [
    Route("POST", SHAPES_PATH, create_deployment_shape, Permission.WRITE, ShapeBody, answer=_SHAPE, query=NewShape),
    Route(
        "GET",
        SHAPES_PATH,
        list_deployment_shapes,
        Permission.READ,
        answer=_SHAPE,
        plural="deploymentShapes",
        query=ShapesQuery,
    ),
    Route("GET", SHAPE, get_deployment_shape, Permission.READ, answer=_SHAPE, query=ShapeQuery),
    Route("PATCH", SHAPE, update_deployment_shape, Permission.WRITE, ShapeBody, answer=_SHAPE, query=ChangedShape),
    Route("DELETE", SHAPE, delete_deployment_shape, Permission.WRITE, answer=Empty),
    Route(
        "GET",
        f"{SHAPE}/versions",
        list_deployment_shape_versions,
        Permission.READ,
        answer=_VERSION,
        plural="deploymentShapeVersions",
    ),
    Route("GET", VERSION, get_deployment_shape_version, Permission.READ, answer=_VERSION),
    Route("PATCH", VERSION, update_deployment_shape_version, Permission.WRITE, VersionBody, answer=_VERSION),
    Route(
        "POST",
        MATCH,
        match_deployment_shape_versions,
        Permission.READ,
        MatchBody,
        answer=_VERSION,
        plural="deploymentShapeVersions",
    ),
]
