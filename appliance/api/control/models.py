"""Routes of models: create, upload file by file to signed URLs, have the files checked, look, delete."""

from collections.abc import Sequence
from enum import StrEnum

from aiohttp import web

from appliance.api.codec import json_response, receive_chunks
from appliance.api.control.deployed_models import DeployedModelRef, render_ref
from appliance.api.control.paging import flag, list_response, masked_response
from appliance.api.control.wire import (
    Answer,
    Empty,
    Int64,
    NotServed,
    Status,
    Wire,
    decode,
    not_served,
    parse_enum,
    render_time,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import DeployedModel, Model, ModelKind
from appliance.names import last_segment
from models.info import ModelInfo

PRECISIONS = {"bfloat16": "BF16", "float16": "FP16", "float32": "FP32"}


class CheckpointFormat(StrEnum):
    HUGGINGFACE = "HUGGINGFACE"


class BaseModelDetailsBody(Wire, frozen=True, kw_only=True):
    """What inspection finds by itself is ignored here."""

    checkpoint_format: str | None = None
    tunable: NotServed = None
    supports_mtp: NotServed = None


class PeftDetailsBody(Wire, frozen=True, kw_only=True):
    """Rank and layers are what inspection finds; what is said of them here is ignored."""

    base_model: str | None = None
    r: int | None = None
    target_modules: list[str] | None = None
    merge_addon_model_name: NotServed = None


class ModelBody(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    description: str | None = None
    kind: str | None = None
    public: bool | None = None
    base_model_details: BaseModelDetailsBody | None = None
    peft_details: PeftDetailsBody | None = None
    supports_lora: bool | None = None
    """Every base model does."""
    context_length: NotServed = None
    conversation_config: NotServed = None
    default_draft_model: NotServed = None
    default_draft_token_count: NotServed = None
    deprecation_date: NotServed = None
    github_url: NotServed = None
    hugging_face_url: NotServed = None
    snapshot_type: NotServed = None
    supports_image_input: NotServed = None
    supports_tools: NotServed = None
    teft_details: NotServed = None
    training_context_length: NotServed = None


class CreateModelBody(Wire, frozen=True, kw_only=True):
    model_id: str
    model: ModelBody = ModelBody()
    cluster: NotServed = None


class UploadEndpointBody(Wire, frozen=True, kw_only=True):
    filename_to_size: dict[str, Int64]
    enable_resumable_upload: NotServed = None


class BaseModelDetails(Answer, frozen=True, kw_only=True):
    checkpoint_format: str
    model_type: str
    parameter_count: str
    default_precision: str
    world_size: int


class PeftDetails(Answer, frozen=True, kw_only=True):
    base_model: str
    r: int | None = None
    target_modules: list[str] | None = None


class ModelAnswer(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str
    description: str
    kind: str
    state: str
    status: Status
    public: bool
    context_length: int | None = None
    base_model_details: BaseModelDetails | None = None
    peft_details: PeftDetails | None = None
    default_sampling_params: dict[str, float] | None = None
    use_hf_apply_chat_template: bool | None = None
    supports_image_input: bool
    supports_tools: bool
    supports_lora: bool
    supports_serverless: bool
    deployed_model_refs: list[DeployedModelRef] | None = None
    """Filled where one model is asked for, not in lists."""
    create_time: str | None = None
    update_time: str | None = None


class UploadEndpoint(Wire, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


class UploadedFile(Wire, frozen=True, kw_only=True):
    sha256: str


class UploadChecks(Wire, frozen=True, kw_only=True):
    warnings: list[str]


async def create_model(request: web.Request) -> web.StreamResponse:
    """Create a model that waits for its files."""
    body = await decode(request, CreateModelBody)
    details = body.model.base_model_details or BaseModelDetailsBody()
    peft = body.model.peft_details or PeftDetailsBody()
    kind = parse_enum(ModelKind, body.model.kind, "model.kind") or (
        ModelKind.HF_PEFT_ADDON if peft.base_model else ModelKind.HF_BASE_MODEL
    )
    parse_enum(CheckpointFormat, details.checkpoint_format, "model.baseModelDetails.checkpointFormat")
    model = await services(request).models.create(
        principal(request),
        request.match_info["account_id"],
        body.model_id,
        display_name=body.model.display_name or "",
        description=body.model.description or "",
        kind=kind,
        is_public=body.model.public or False,
        base_model=peft.base_model or None,
    )
    return json_response(render_model(model))


async def list_models(request: web.Request) -> web.StreamResponse:
    """List the models of an account."""
    models = await services(request).models.list(principal(request), request.match_info["account_id"])
    return list_response(request, "models", ModelAnswer, models, render_model)


async def get_model(request: web.Request) -> web.StreamResponse:
    """Get a model, and where it is served."""
    model = await services(request).models.get(principal(request), *_name(request))
    places = await services(request).deployed_models.list_of_model(principal(request), model)
    return masked_response(request, render_model(model, places))


async def delete_model(request: web.Request) -> web.StreamResponse:
    """Delete a model and its files."""
    await services(request).models.delete(principal(request), *_name(request))
    return json_response(Empty())


async def get_upload_endpoint(request: web.Request) -> web.StreamResponse:
    """Get a signed URL for each file of a model."""
    body = await decode(request, UploadEndpointBody)
    sizes = {filename: int(size) for filename, size in body.filename_to_size.items()}
    base_url = services(request).config.server.public_url or f"{request.scheme}://{request.host}"
    urls = await services(request).models.upload_urls(principal(request), *_name(request), sizes, base_url.rstrip("/"))
    return json_response(UploadEndpoint(filename_to_signed_urls=urls))


async def receive_file(request: web.Request) -> web.StreamResponse:
    """Take a file of a model at its signed URL. Some clients take nothing but 200 for success."""
    settings = services(request).config.server
    chunks = receive_chunks(request, settings.max_file_bytes, settings.upload_idle_timeout_s)
    sha256 = await services(request).models.receive_file(
        request.match_info["token"], request.match_info["filename"], chunks
    )
    return json_response(UploadedFile(sha256=sha256))


async def validate_upload(request: web.Request) -> web.StreamResponse:
    """Check the files of a model and make it ready."""
    for name in ("skipHfConfigValidation", "trustRemoteCode", "configOnly"):
        if flag(request, name):
            raise not_served(name)
    warnings = await services(request).models.validate_upload(principal(request), *_name(request))
    return json_response(UploadChecks(warnings=warnings))


def render_model(model: Model, places: Sequence[DeployedModel] | None = None) -> ModelAnswer:
    """`places`: where it is served, if that is to be shown."""
    info = model.info
    return ModelAnswer(
        name=model.name,
        display_name=model.display_name,
        description=model.description,
        kind=model.kind,
        state=model.state,
        status=Status(message=model.status_message),
        public=model.is_public,
        context_length=info.max_context_length if info else None,
        base_model_details=_render_details(info) if info else None,
        peft_details=_render_peft_details(model),
        default_sampling_params=info.default_sampling if info else None,
        use_hf_apply_chat_template=info.has_chat_template if info else None,
        supports_image_input=info is not None and info.vision is not None,
        supports_tools=False,
        supports_lora=model.kind is ModelKind.HF_BASE_MODEL and info is not None,
        supports_serverless=model.is_serverless,
        deployed_model_refs=None if places is None else [render_ref(place) for place in places],
        create_time=render_time(model.created_at),
        update_time=render_time(model.updated_at),
    )


def _render_details(info: ModelInfo) -> BaseModelDetails:
    return BaseModelDetails(
        checkpoint_format=CheckpointFormat.HUGGINGFACE,
        model_type=info.model_type,
        parameter_count=str(info.num_parameters),
        default_precision=PRECISIONS.get(info.dtype, "PRECISION_UNSPECIFIED"),
        world_size=1,
    )


def _render_peft_details(model: Model) -> PeftDetails | None:
    if model.base_model is None:
        return None
    addon = model.addon_info
    return PeftDetails(
        base_model=model.base_model,
        r=addon.rank if addon else None,
        target_modules=addon.target_modules if addon else None,
    )


def _name(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["model_id"], account_id, "models", "model_id")


COLLECTION = "/v1/accounts/{account_id}/models"
MODEL = "/v1/accounts/{account_id}/models/{model_id}"

ROUTES = [
    Route("POST", COLLECTION, create_model, Permission.WRITE, CreateModelBody),
    Route("GET", COLLECTION, list_models, Permission.READ),
    Route("GET", MODEL, get_model, Permission.READ),
    Route("DELETE", MODEL, delete_model, Permission.WRITE),
    Route("POST", f"{MODEL}:getUploadEndpoint", get_upload_endpoint, Permission.WRITE, UploadEndpointBody),
    Route("PUT", "/v1/uploads/{token}/{filename}", receive_file, Permission.SIGNED_URL),
    Route("GET", f"{MODEL}:validateUpload", validate_upload, Permission.WRITE),
]
