"""POST /workflows/accounts/A/models/M/text_to_image: how FLUX models are asked for a picture of a text."""

from typing import Literal
from uuid import uuid4

import msgspec
from aiohttp import web

from appliance.api.codec import decode_json, ignored_fields, read_body
from appliance.api.data.accepting import HEADER, Form, choose_form
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, Count, invalid
from appliance.api.data.image_fields import (
    Edge,
    Guidance,
    NegativePrompt,
    PromptText,
    Seed,
    file_format,
    path_model,
)
from appliance.api.data.pictures import IMAGE_FILES, ImageEvent, Picture, begin_drawing, respond
from appliance.api.routing import Permission, Route, services
from appliance.services.images import FieldNames, PictureRequest, choose_seeds

PATH = "/inference/v1/workflows/accounts/{account_id}/models/{model_id}"
NAMES = FieldNames(model="model_id", others={"steps": "num_inference_steps"})
AspectRatio = Literal["1:1", "21:9", "16:9", "3:2", "5:4", "4:5", "2:3", "9:16", "9:21", "4:3", "3:4"]


class TextToImageBody(msgspec.Struct, kw_only=True):
    prompt: PromptText
    aspect_ratio: AspectRatio | None = None
    """Width to height; or say both."""
    guidance_scale: Guidance | None = None
    num_inference_steps: Count | None = None
    seed: Seed | None = None
    """0 and none: a random one, which the answer tells."""
    negative_prompt: NegativePrompt | None = None
    width: Edge | None = None
    height: Edge | None = None
    steps: Count | None = None
    """Another name of `num_inference_steps`."""
    safety_check: bool | None = None


class WorkflowImage(msgspec.Struct, rename="camel"):
    id: str
    base64: list[str]
    finish_reason: str
    """SUCCESS, or CONTENT_FILTERED of one that the safety check kept back, which is black."""
    seed: int


async def run_text_to_image(request: web.Request) -> web.StreamResponse:
    """Make a picture of a text.

    The Accept header says how it comes: `image/png` or `image/jpeg`, a file; `application/json`; `text/event-stream`,
    events that tell how far it is.
    """
    raw = await read_body(request)
    body = decode_json(raw or b"{}", TextToImageBody)
    form = choose_form(request.headers.get(HEADER, ""), 1, HEADER)
    wanted = _to_picture(request, body, form)
    running = await begin_drawing(request, path_model(request), wanted)
    ignored = ignored_fields(raw, TextToImageBody)
    headers = {IGNORED_FIELDS_HEADER: ignored} if ignored else {}
    return await respond(request, running, wanted, form, headers, _to_json)


def _to_picture(request: web.Request, body: TextToImageBody, form: Form) -> PictureRequest:
    if body.aspect_ratio is not None and (body.width is not None or body.height is not None):
        raise invalid("aspect_ratio", "is said by width and height too; give either")
    if body.steps is not None and body.num_inference_steps is not None:
        raise invalid("steps", "is another name of num_inference_steps; give one of them")
    return PictureRequest(
        names=NAMES,
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or "",
        width=body.width,
        height=body.height,
        aspect=_aspect(body.aspect_ratio),
        seeds=choose_seeds(body.seed or None, 1, NAMES, services(request).config.images),
        num_steps=body.num_inference_steps if body.steps is None else body.steps,
        guidance_scale=body.guidance_scale,
        checks_safety=bool(body.safety_check),
        format=file_format(form),
        reports_progress=form is Form.EVENTS,
    )


def _aspect(ratio: str | None) -> tuple[int, int] | None:
    if ratio is None:
        return None
    wide, _, high = ratio.partition(":")
    return int(wide), int(high)


def _to_json(pictures: list[Picture]) -> WorkflowImage:
    (picture,) = pictures
    artifact = picture.artifact()
    return WorkflowImage(str(uuid4()), [artifact.base64], artifact.finish_reason, artifact.seed)


ROUTES = [
    Route(
        "POST",
        f"{PATH}/text_to_image",
        run_text_to_image,
        Permission.INFER,
        TextToImageBody,
        answer=WorkflowImage,
        other_answers=IMAGE_FILES,
        event=ImageEvent,
    ),
]
