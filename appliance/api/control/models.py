"""Routes of models: made, filled file by file over signed URLs, checked, looked at, changed, downloaded, deleted."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.model_answer import ModelAnswer, render_model
from appliance.api.control.model_body import ModelBody, read_ask
from appliance.api.control.paging import (
    RenderedOnce,
    asked_page_size,
    asked_place,
    is_asked_plainly,
    list_response,
    masked_response,
    page_response,
)
from appliance.api.control.transfers import base_url
from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import (
    Empty,
    Int64,
    NotServed,
    ResourceId,
    UpdateQuery,
    Wire,
    decode,
    decode_query,
    not_served,
    parse_enum,
)
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Model, Precision
from appliance.errors import Code, HearthError
from appliance.names import last_segment


class CreateModelBody(Wire, frozen=True, kw_only=True):
    model_id: ResourceId
    model: ModelBody = ModelBody()
    cluster: NotServed = None


class UploadEndpointBody(Wire, frozen=True, kw_only=True):
    filename_to_size: Annotated[
        dict[str, Int64],
        msgspec.Meta(description="Each file's exact size in bytes.", examples=[{"config.json": 689}]),
    ]
    enable_resumable_upload: Annotated[
        bool, msgspec.Meta(description="The URLs also take a file in parts, and go on where a broken upload ended.")
    ] = False


class PrepareBody(Wire, frozen=True, kw_only=True):
    precision: str


class UploadEndpoint(Wire, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


class DownloadEndpoint(Wire, frozen=True, kw_only=True):
    filename_to_signed_urls: dict[str, str]


class ValidateUploadQuery(Wire, frozen=True, kw_only=True):
    config_only: Annotated[
        bool, msgspec.Meta(description="Only look at config.json, and leave the model as it is.")
    ] = False
    skip_hf_config_validation: Annotated[bool, msgspec.Meta(description="Not served: all is checked.")] = False
    trust_remote_code: Annotated[bool, msgspec.Meta(description="Not served: a model's own code never runs.")] = False


class UploadChecks(Wire, frozen=True, kw_only=True):
    warnings: list[str]


async def create_model(request: web.Request) -> web.StreamResponse:
    """Create a model that waits for its files.

    Its own chat template is used unless `conversationConfig` brings another, which is tried before it is taken.
    """
    body = await decode(request, CreateModelBody)
    model = await services(request).models.create(
        principal(request), request.match_info["account_id"], body.model_id, read_ask(body.model, "model.")
    )
    return json_response(await _render_whole(request, model))


async def list_models(request: web.Request) -> web.StreamResponse:
    """List the models of an account."""
    if is_asked_plainly(request):
        limit, after = asked_page_size(request), asked_place(request)
        account_id, after_id = request.match_info["account_id"], after[0].rpartition("/")[2] if after else ""
        page = await services(request).models.list_after(principal(request), account_id, after_id, limit + 1)
        if page is not None:
            rendered = [render_model(model) for model in page[0]]
            return page_response(request, "models", ModelAnswer, rendered, limit, page[1])
    models = await services(request).models.list(principal(request), request.match_info["account_id"])
    await _render_listed.prepare(models)
    return list_response(request, "models", ModelAnswer, models, _render_listed)


async def get_model(request: web.Request) -> web.StreamResponse:
    """Get a model, and where it is served."""
    model = await services(request).models.get(principal(request), *named_model(request))
    return masked_response(request, await _render_whole(request, model))


async def update_model(request: web.Request) -> web.StreamResponse:
    """Change the fields that are present, or those that updateMask names.

    Deployments of a model whose `conversationConfig` or `contextLength` changes replace their replicas one by one.
    """
    ask = read_ask(masked_update(request, await decode(request, ModelBody)))
    model = await services(request).models.update(principal(request), *named_model(request), ask)
    return json_response(await _render_whole(request, model))


async def delete_model(request: web.Request) -> web.StreamResponse:
    """Delete a model and its files."""
    await services(request).models.delete(principal(request), *named_model(request))
    return json_response(Empty())


async def prepare_model(request: web.Request) -> web.StreamResponse:
    """Have a model made ready for a precision.

    Nothing is done for those in the model's `precisions`. For FP8 a second checkpoint is made beside the model's own,
    which takes minutes: `status` tells how far it is, and when it is there `precisions` names FP8.
    """
    body = await decode(request, PrepareBody)
    precision = parse_enum(Precision, body.precision, "precision")
    if precision is None:
        raise HearthError(Code.INVALID, f"precision: one of {', '.join(Precision)}", "precision")
    await services(request).preparations.prepare(principal(request), *named_model(request), precision)
    return json_response(Empty())


async def get_model_upload_endpoint(request: web.Request) -> web.StreamResponse:
    """Get a signed URL for each file of a model."""
    body = await decode(request, UploadEndpointBody)
    urls = await services(request).model_files.upload_urls(
        principal(request),
        *named_model(request),
        {filename: int(size) for filename, size in body.filename_to_size.items()},
        base_url(request),
        body.enable_resumable_upload,
    )
    return json_response(UploadEndpoint(filename_to_signed_urls=urls))


async def get_model_download_endpoint(request: web.Request) -> web.StreamResponse:
    """Get a signed URL for each file of a model, good for a day. The audit log tells who asked."""
    urls = await services(request).model_files.download_urls(
        principal(request), *named_model(request), base_url(request)
    )
    return json_response(DownloadEndpoint(filename_to_signed_urls=urls))


async def validate_model_upload(request: web.Request) -> web.StreamResponse:
    """Check the files of a model and make it ready."""
    query = decode_query(request, ValidateUploadQuery)
    refused = {"skipHfConfigValidation": query.skip_hf_config_validation, "trustRemoteCode": query.trust_remote_code}
    for name, is_asked in refused.items():
        if is_asked:
            raise not_served(name)
    files = services(request).model_files
    check = files.check_config if query.config_only else files.validate_upload
    return json_response(UploadChecks(warnings=await check(principal(request), *named_model(request))))


def named_model(request: web.Request) -> tuple[str, str]:
    """Account and id; some clients put the full name into the path's last segment."""
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["model_id"], account_id, "models", "model_id")


async def _render_whole(request: web.Request, model: Model) -> ModelAnswer:
    places = await services(request).deployed_models.list_of_model(principal(request), model)
    config = await services(request).model_files.conversation_config(model)
    return render_model(model, places, config, services(request).preparations.progress(model))


_render_listed = RenderedOnce(render_model)

COLLECTION = "/v1/accounts/{account_id}/models"
MODEL = "/v1/accounts/{account_id}/models/{model_id}"

ROUTES = [
    Route("POST", COLLECTION, create_model, Permission.WRITE, CreateModelBody, answer=ModelAnswer),
    Route("GET", COLLECTION, list_models, Permission.READ, answer=ModelAnswer, plural="models"),
    Route("GET", MODEL, get_model, Permission.READ, answer=ModelAnswer),
    Route("PATCH", MODEL, update_model, Permission.WRITE, ModelBody, answer=ModelAnswer, query=UpdateQuery),
    Route("DELETE", MODEL, delete_model, Permission.WRITE, answer=Empty),
    Route("POST", f"{MODEL}:prepare", prepare_model, Permission.WRITE, PrepareBody, answer=Empty),
    Route(
        "POST",
        f"{MODEL}:getUploadEndpoint",
        get_model_upload_endpoint,
        Permission.WRITE,
        UploadEndpointBody,
        answer=UploadEndpoint,
    ),
    Route(
        "GET", f"{MODEL}:getDownloadEndpoint", get_model_download_endpoint, Permission.WRITE, answer=DownloadEndpoint
    ),
    Route(
        "GET",
        f"{MODEL}:validateUpload",
        validate_model_upload,
        Permission.WRITE,
        answer=UploadChecks,
        query=ValidateUploadQuery,
    ),
]
