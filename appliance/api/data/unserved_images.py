"""What Fireworks' image routes have and this machine does not: each is refused by its name, once the model is found."""

from typing import NoReturn

from aiohttp import web

from appliance.api.data.generation import invalid
from appliance.api.data.image_fields import path_model
from appliance.api.data.image_generation import PATH as GENERATION
from appliance.api.data.image_workflows import PATH as WORKFLOWS
from appliance.api.routing import Content, Permission, Route, principal, services

VIDEO = "/inference/v1/video_generation/accounts/{account_id}/models/{model_id}"
_BODY = Content("application/json", "It is not read.")
_NEVER = Content("application/json", "Never.")


async def make_qr_code(request: web.Request) -> web.StreamResponse:
    """Refuse to make a picture that is a QR code."""
    await _refuse(request, "qr_code is not served: the models here make no QR codes")


async def edit_with_kontext(request: web.Request) -> web.StreamResponse:
    """Refuse to edit a picture with a FLUX Kontext model."""
    await _refuse(request, "FLUX Kontext is not served; a model here is asked at its path followed by /text_to_image")


async def get_kontext_result(request: web.Request) -> web.StreamResponse:
    """Refuse to tell the result of a FLUX Kontext model."""
    await _refuse(request, "get_result is not served: pictures here are the answer to the request itself")


async def make_video(request: web.Request) -> web.StreamResponse:
    """Refuse to make a video of a picture."""
    await _refuse(request, "image_to_video is not served: the models here make no videos")


async def animate_image(request: web.Request) -> web.StreamResponse:
    """Refuse to make a video of a picture and a voice."""
    await _refuse(request, "animate is not served: the models here make no videos")


async def _refuse(request: web.Request, message: str) -> NoReturn:
    """A model that the caller cannot reach is not found, here as everywhere."""
    await services(request).deployments.resolve(principal(request), path_model(request))
    raise invalid("model_id", message)


ROUTES = [
    Route("POST", path, handler, Permission.INFER, _BODY, answer=_NEVER)
    for path, handler in (
        (f"{GENERATION}/qr_code", make_qr_code),
        (WORKFLOWS, edit_with_kontext),
        (f"{WORKFLOWS}/get_result", get_kontext_result),
        (f"{VIDEO}/image_to_video", make_video),
        (f"{VIDEO}/animate", animate_image),
    )
]
