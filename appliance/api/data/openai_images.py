"""POST /images/generations and /images/edits: pictures in OpenAI's words.

Beyond those words the fields say what image models of this kind are told: negative_prompt, seed, steps, guidance.
"""

import re
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.codec import decode_json, ignored_fields, read_body
from appliance.api.data.forms import Form, decode_fields, ignored_form_fields
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, Count, invalid, unsupported
from appliance.api.data.image_fields import Guidance, NegativePrompt, PromptText, SchedulerName, Seed
from appliance.api.data.image_files import EDITOR, checked_image, read_image_form, required_image
from appliance.api.data.openai_image_answer import ImagesAnswer, OpenAIImageEvent, respond
from appliance.api.data.pictures import begin_drawing
from appliance.api.routing import Content, Permission, Route, services
from appliance.errors import Code, HearthError
from appliance.services.images import FieldNames, PictureRequest, choose_seeds
from models.image_edits import MaskTransparent
from runtime.tasks.images import ImageFormat

NAMES = FieldNames(
    others={
        "samples": "n",
        "steps": "num_inference_steps",
        "width": "size",
        "height": "size",
        "sampler": "scheduler",
    }
)
IMAGE, MASK = "image", "mask"
IDLE_FIELDS = ("quality", "style", "moderation", "input_fidelity", "complexity")
"""Hints that nothing hangs on here."""
OVERPAINTING = 0.8
"""How much of an edited image is painted over, of what its mask frees everything."""
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class OpenAIImageFields(msgspec.Struct, kw_only=True):
    """Of both routes."""

    model: str
    prompt: PromptText
    n: Count | None = None
    size: str | None = None
    """`WIDTHxHEIGHT`, or `auto`."""
    response_format: Literal["b64_json", "url"] | None = None
    """`url` is refused: pictures are not kept."""
    output_format: Literal["png", "jpeg"] | None = None
    output_compression: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    """Refused but for 100."""
    background: Literal["auto", "opaque", "transparent"] | None = None
    """`transparent` is refused."""
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=3)] | None = None
    """Refused but for 0: events tell how far a picture is, and show it when it is finished."""
    quality: str | None = None
    style: str | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    complexity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    negative_prompt: NegativePrompt | None = None
    num_inference_steps: Count | None = None
    guidance_scale: Guidance | None = None
    seed: Seed | None = None
    scheduler: SchedulerName | None = None
    safety_check: bool | None = None


class ImageGenerationBody(OpenAIImageFields, kw_only=True):
    pass


class ImageEditFields(OpenAIImageFields, kw_only=True):
    mask: bytes | None = None
    """A PNG file of the image's size: what is transparent in it is painted anew, and nothing else."""
    strength: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """How much of the image is painted over."""


async def create_image(request: web.Request) -> web.StreamResponse:
    """Make pictures of a text."""
    raw = await read_body(request)
    body = decode_json(raw or b"{}", ImageGenerationBody)
    wanted = _to_picture(request, body)
    running = await begin_drawing(request, body.model, wanted)
    headers = _ignored(body, ignored_fields(raw, ImageGenerationBody))
    return await respond(request, running, wanted, "image_generation", headers)


async def edit_image(request: web.Request) -> web.StreamResponse:
    """Make pictures of a text that begin with an image, or with what a mask leaves of it."""
    form = await read_image_form(request, IMAGE, MASK)
    fields = decode_fields(form, ImageEditFields)
    image = required_image(form, IMAGE)
    wanted = replace(_to_picture(request, fields), image=image)
    mask = await _mask(request, form, image)
    strength = fields.strength or (1.0 if mask else OVERPAINTING)
    wanted = replace(wanted, mask=mask, strength=strength)
    running = await begin_drawing(request, fields.model, wanted)
    headers = _ignored(fields, ignored_form_fields(form, ImageEditFields))
    return await respond(request, running, wanted, "image_edit", headers)


async def _mask(request: web.Request, form: Form, image: bytes) -> bytes:
    """White where it is transparent; empty where there is none."""
    data = form.files.get(MASK)
    if not data:
        return b""
    mask = await request.app[EDITOR].edit(MaskTransparent(image=image, mask=checked_image(data, MASK)), MASK)
    bytes_max = services(request).config.images.image_request_bytes_max
    if len(image) + len(mask) > bytes_max:  # a mask may be larger without its colours than it was with them
        raise HearthError(Code.TOO_LARGE, f"{MASK}: with it those of the request exceed {bytes_max} bytes", MASK)
    return mask


def _to_picture(request: web.Request, fields: OpenAIImageFields) -> PictureRequest:
    _refuse_unserved(fields)
    width, height = _read_size(fields.size)
    return PictureRequest(
        names=NAMES,
        prompt=fields.prompt,
        negative_prompt=fields.negative_prompt or "",
        width=width,
        height=height,
        seeds=choose_seeds(fields.seed, fields.n or 1, NAMES, services(request).config.images),
        num_steps=fields.num_inference_steps,
        guidance_scale=fields.guidance_scale,
        scheduler=fields.scheduler or "",
        checks_safety=bool(fields.safety_check),
        format=_format(fields),
        reports_progress=bool(fields.stream),
    )


def _refuse_unserved(fields: OpenAIImageFields) -> None:
    if fields.response_format == "url":
        raise invalid("response_format", "url is not served, for pictures are not kept; ask for b64_json")
    if fields.background == "transparent":
        raise unsupported("background")
    if fields.output_compression not in (None, 100):
        raise unsupported("output_compression")
    if fields.partial_images:
        raise unsupported("partial_images")


def _format(fields: OpenAIImageFields) -> ImageFormat:
    return fields.output_format or "png"


def _read_size(size: str | None) -> tuple[int | None, int | None]:
    if size is None or size == "auto":
        return None, None
    match = _SIZE.fullmatch(size)
    if match is None:
        raise invalid("size", "must be auto or of the form 1024x1024")
    return int(match[1]), int(match[2])


def _ignored(fields: OpenAIImageFields, unknown: str) -> dict[str, str]:
    idle = [name for name in IDLE_FIELDS if getattr(fields, name) not in (None, "auto")]
    names = [name for name in (unknown, *idle) if name]
    return {IGNORED_FIELDS_HEADER: ", ".join(names)} if names else {}


ROUTES = [
    Route(
        "POST",
        "/inference/v1/images/generations",
        create_image,
        Permission.INFER,
        ImageGenerationBody,
        answer=ImagesAnswer,
        event=OpenAIImageEvent,
    ),
    Route(
        "POST",
        "/inference/v1/images/edits",
        edit_image,
        Permission.INFER,
        Content("multipart/form-data", "The image, and what to make of it.", parts=(IMAGE,), fields=ImageEditFields),
        answer=ImagesAnswer,
        event=OpenAIImageEvent,
    ),
]
