"""Routes of imports: models whose files the daemon fetches by itself, and the operations that tell how far that is."""

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.model_answer import render_model
from appliance.api.control.model_body import ModelBody, read_ask
from appliance.api.control.models import MODEL, named_model
from appliance.api.control.paging import list_response, masked_response
from appliance.api.control.wire import Answer, Empty, Wire, decode, render_time
from appliance.api.errors import WIRE
from appliance.api.routing import Permission, Route, principal, services
from appliance.domain import Operation, OperationState
from appliance.errors import Code, HearthError
from appliance.names import last_segment, parse_name
from appliance.services.import_folder import LOCAL_PATH, LocalFolder
from appliance.services.import_hub import HUGGING_FACE_URL, HubRepository
from appliance.services.import_sources import ImportSource

CANCELLED_GRPC_CODE = 1
_GOOGLE_TYPE = "type.googleapis.com/"


class ImportModelBody(Wire, frozen=True, kw_only=True):
    local_path: Annotated[
        str | None, msgspec.Meta(description="A folder of this machine, below one of the setting import_roots.")
    ] = None
    hugging_face_url: Annotated[
        str | None,
        msgspec.Meta(description="A repository of the hub, or its page; with the setting allow_hub.", examples=["o/n"]),
    ] = None
    revision: Annotated[str, msgspec.Meta(description="Of the repository: branch, tag or commit.")] = "main"
    model: Annotated[ModelBody, msgspec.Meta(description="Of the new model, besides its files.")] = ModelBody()


class ImportModelMetadata(Answer, frozen=True, kw_only=True):
    type_url: str = msgspec.field(default=f"{_GOOGLE_TYPE}gateway.ImportModelMetadata", name="@type")
    model: str
    source: str
    state: str
    progress_bytes: str
    """That are there."""
    total_bytes: str
    """0 until it is known."""
    percent: int
    create_time: str | None
    update_time: str | None


class OperationError(Answer, frozen=True, kw_only=True):
    """google.rpc.Status."""

    code: int
    message: str
    details: list[Any] = []


class OperationAnswer(Answer, frozen=True, kw_only=True, omit_defaults=False):
    """google.longrunning.Operation."""

    name: str
    metadata: ImportModelMetadata
    done: bool
    error: OperationError | msgspec.UnsetType = msgspec.UNSET
    response: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """The model, once it is done; where one operation is asked for, not in lists."""


async def import_model(request: web.Request) -> web.StreamResponse:
    """Make a model from a folder of this machine, or from the hub.

    Returns an operation at once, which tells of the progress. A model that is there and not READY is filled: asked
    again after a failure, the import goes on with what had arrived.
    """
    body = await decode(request, ImportModelBody)
    operation = await services(request).imports.start(
        principal(request), *named_model(request), await _source(request, body), read_ask(body.model, "model.")
    )
    return json_response(_render(operation))


async def list_operations(request: web.Request) -> web.StreamResponse:
    """List the imports of an account, under way and past."""
    found = await services(request).imports.list(principal(request), request.match_info["account_id"])
    return list_response(request, "operations", OperationAnswer, found, _render, "metadata.createTime desc")


async def get_operation(request: web.Request) -> web.StreamResponse:
    """Get an operation, and when it is done what it has made."""
    operation = await services(request).imports.get(principal(request), *_name(request))
    answer = _render(operation)
    if operation.state is OperationState.DONE:
        answer = msgspec.structs.replace(answer, response=await _made(request, operation))
    return masked_response(request, answer)


async def cancel_operation(request: web.Request) -> web.StreamResponse:
    """Stop an operation. What has arrived stays for another attempt."""
    await services(request).imports.cancel(principal(request), *_name(request))
    return json_response(Empty())


async def _source(request: web.Request, body: ImportModelBody) -> ImportSource:
    if bool(body.local_path) == bool(body.hugging_face_url):
        message = f"{LOCAL_PATH}: give either this or {HUGGING_FACE_URL}"
        raise HearthError(Code.INVALID, message, LOCAL_PATH)
    settings = services(request).config.imports
    if body.local_path:
        return await asyncio.to_thread(LocalFolder, body.local_path, settings.import_roots)
    receiver = services(request).transfers.receiver
    return HubRepository(body.hugging_face_url or "", body.revision, settings, receiver)


async def _made(request: web.Request, operation: Operation) -> dict[str, Any]:
    """The model as it is now; nothing but its type when it is gone."""
    name = parse_name(operation.model, "models", "model")
    told: dict[str, Any] = {"@type": f"{_GOOGLE_TYPE}gateway.Model"}
    try:
        model = await services(request).models.get(principal(request), name.account_id, name.resource_id)
    except HearthError:
        return told
    rendered: dict[str, Any] = msgspec.to_builtins(render_model(model))
    return told | rendered


def _render(operation: Operation) -> OperationAnswer:
    is_over = operation.state is not OperationState.RUNNING
    total = operation.total_bytes
    return OperationAnswer(
        name=operation.name,
        metadata=ImportModelMetadata(
            model=operation.model,
            source=operation.source,
            state=operation.state,
            progress_bytes=str(operation.num_bytes),
            total_bytes=str(total),
            percent=100
            if operation.state is OperationState.DONE
            else operation.num_bytes * 100 // total
            if total
            else 0,
            create_time=render_time(operation.created_at),
            update_time=render_time(operation.updated_at),
        ),
        done=is_over,
        error=_render_error(operation) if operation.error_code else msgspec.UNSET,
    )


def _render_error(operation: Operation) -> OperationError:
    is_cancelled = operation.state is OperationState.CANCELLED
    code = CANCELLED_GRPC_CODE if is_cancelled else WIRE[Code(operation.error_code)].grpc_code
    return OperationError(code=code, message=operation.error_message)


def _name(request: web.Request) -> tuple[str, str]:
    account_id = request.match_info["account_id"]
    return account_id, last_segment(request.match_info["operation_id"], account_id, "operations", "operation_id")


COLLECTION = "/v1/accounts/{account_id}/operations"
OPERATION = "/v1/accounts/{account_id}/operations/{operation_id}"

ROUTES = [
    Route("POST", f"{MODEL}:import", import_model, Permission.WRITE, ImportModelBody, answer=OperationAnswer),
    Route("GET", COLLECTION, list_operations, Permission.READ, answer=OperationAnswer, plural="operations"),
    Route("GET", OPERATION, get_operation, Permission.READ, answer=OperationAnswer),
    Route("POST", f"{OPERATION}:cancel", cancel_operation, Permission.WRITE, answer=Empty),
]
