"""POST …/image_to_image and …/control_net: a picture and a text in, pictures that follow both out."""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.data.forms import Form as Fields
from appliance.api.data.forms import decode_fields, ignored_form_fields
from appliance.api.data.generation import invalid
from appliance.api.data.image_fields import (
    Fraction,
    ImageFields,
    PromptText,
    asked_form,
    asked_model,
    ignored_headers,
    to_picture,
)
from appliance.api.data.image_files import read_image_form, required_image
from appliance.api.data.image_generation import PATH, list_artifacts
from appliance.api.data.pictures import IMAGE_FILES, ImageArtifact, ImageEvent, begin_drawing, respond
from appliance.api.routing import Content, Permission, Route
from appliance.services.images import FieldNames, PictureRequest
from runtime.tasks.images import Control

IMAGE, CONTROL_IMAGE = "init_image", "control_image"
SKIPPED_STEPS = 0.65
"""What `step_schedule_start` is when nobody says."""
_MULTIPART = "multipart/form-data"


class GuidedFields(ImageFields, kw_only=True):
    prompt: PromptText
    crop_padding: bool | None = None
    """Without effect: nothing is padded."""


class ImageToImageFields(GuidedFields, kw_only=True):
    init_image_mode: Literal["IMAGE_STRENGTH", "STEP_SCHEDULE"] | None = None
    image_strength: Annotated[float, msgspec.Meta(ge=0, lt=1)] | None = None
    """How much stays of the image, in the mode IMAGE_STRENGTH, where it is required."""
    step_schedule_start: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """How much is painted over it, in the mode STEP_SCHEDULE."""
    step_schedule_end: Fraction | None = None
    """Of the steps at the end that are skipped: only 0, none."""


class ControlNetFields(GuidedFields, kw_only=True):
    control_net_name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    conditioning_scale: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    step_schedule_start: Fraction | None = None
    step_schedule_end: Fraction | None = None
    """Fractions of the steps between which the ControlNet counts."""


async def transform_image(request: web.Request) -> web.StreamResponse:
    """Make pictures of a text that begin with an image."""
    form = await read_image_form(request, IMAGE)
    fields = decode_fields(form, ImageToImageFields)
    image, strength = required_image(form, IMAGE), _strength(fields)

    def guide(wanted: PictureRequest) -> PictureRequest:
        return replace(wanted, names=_names(wanted.names, fields), image=image, strength=strength)

    return await _answer(request, form, fields, guide)


async def follow_image(request: web.Request) -> web.StreamResponse:
    """Make pictures of a text that follow an image through a ControlNet of the model."""
    form = await read_image_form(request, CONTROL_IMAGE)
    fields = decode_fields(form, ControlNetFields)
    control = _control(fields, required_image(form, CONTROL_IMAGE))
    return await _answer(request, form, fields, lambda wanted: replace(wanted, control=control))


async def _answer(
    request: web.Request, form: Fields, fields: GuidedFields, guide: Callable[[PictureRequest], PictureRequest]
) -> web.StreamResponse:
    accepted = asked_form(request, fields)
    wanted = guide(to_picture(request, fields, fields.prompt, fields.negative_prompt, accepted))
    running = await begin_drawing(request, asked_model(request, fields), wanted)
    idle = ["crop_padding"] if fields.crop_padding is False else []
    headers = ignored_headers(fields, ignored_form_fields(form, type(fields)), *idle)
    return await respond(request, running, wanted, accepted, headers, list_artifacts)


def _names(names: FieldNames, fields: ImageToImageFields) -> FieldNames:
    strength = "step_schedule_start" if fields.init_image_mode == "STEP_SCHEDULE" else "image_strength"
    return replace(names, others=names.others | {"strength": strength})


def _strength(fields: ImageToImageFields) -> float:
    """How much is painted over: what does not stay, or the steps that are done."""
    if fields.init_image_mode == "STEP_SCHEDULE":
        if fields.step_schedule_end:
            raise invalid("step_schedule_end", "must be 0: every picture is made to its last step")
        return SKIPPED_STEPS if fields.step_schedule_start is None else fields.step_schedule_start
    if fields.image_strength is None:
        raise invalid("image_strength", "this field is required")
    return 1 - fields.image_strength


def _control(fields: ControlNetFields, image: bytes) -> Control:
    start = 0.0 if fields.step_schedule_start is None else fields.step_schedule_start
    end = 1.0 if fields.step_schedule_end is None else fields.step_schedule_end
    if start >= end:
        raise invalid("step_schedule_end", "must be after step_schedule_start")
    scale = 0.5 if fields.conditioning_scale is None else fields.conditioning_scale
    return Control(name=fields.control_net_name, image=image, scale=scale, start=start, end=end)


ROUTES = [
    Route(
        "POST",
        f"{PATH}/{name}",
        handler,
        Permission.INFER,
        Content(_MULTIPART, "The image and what to make of it.", parts=(part,), fields=kind),
        answer=ImageArtifact,
        is_array=True,
        other_answers=IMAGE_FILES,
        event=ImageEvent,
    )
    for name, handler, part, kind in (
        ("image_to_image", transform_image, IMAGE, ImageToImageFields),
        ("control_net", follow_image, CONTROL_IMAGE, ControlNetFields),
    )
]
