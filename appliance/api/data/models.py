"""GET /models: what the caller can name in the `model` field, in OpenAI's form."""

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.routing import Permission, Route, principal, services
from appliance.errors import Code, HearthError
from appliance.names import parse_name
from appliance.services.targets import Askable
from models.info import ModelInfo


class ServedModel(msgspec.Struct):
    id: str
    created: int
    owned_by: str
    kind: str
    supports_chat: bool
    context_length: int
    object: str = "model"
    supports_image_input: bool = False
    supports_tools: bool = False


class ServedModelList(msgspec.Struct):
    data: list[ServedModel]
    object: str = "list"


async def list_served_models(request: web.Request) -> web.StreamResponse:
    """Models whose name leads somewhere: the caller's own, the library's, and what others serve in public."""
    models = await services(request).models.list_askable(principal(request))
    return json_response(ServedModelList([_render(model) for model in models]))


async def get_served_model(request: web.Request) -> web.StreamResponse:
    """One of them, by its full name."""
    text = request.match_info["model"]
    try:
        name = parse_name(text, "models", "model")
    except HearthError as error:
        raise HearthError(Code.NOT_FOUND, "Model not found, inaccessible, and/or not deployed", "model") from error
    model = await services(request).models.get_askable(principal(request), name.account_id, name.resource_id)
    return json_response(_render(model))


def _render(askable: Askable) -> ServedModel:
    model, info = askable
    llm = info if isinstance(info, ModelInfo) else None
    return ServedModel(
        id=model.name,
        created=int(model.created_at),
        owned_by=model.account_id,
        kind=model.kind,
        supports_chat=llm is not None and llm.has_chat_template,
        supports_image_input=llm is not None and llm.vision is not None,
        context_length=0 if info is None else info.max_context_length,
    )


ROUTES = [
    Route("GET", "/inference/v1/models", list_served_models, Permission.READ, answer=ServedModelList),
    Route("GET", "/inference/v1/models/{model:.+}", get_served_model, Permission.READ, answer=ServedModel),
]
