"""What the image_generation routes have in common: the fields of a request, as JSON or as a form, and their checks.

Each field that the API names is carried out, refused by name, or told of as one without effect.
"""

from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.api.data.accepting import HEADER, Form, choose_form
from appliance.api.data.generation import IGNORED_FIELDS_HEADER, Count, unsupported
from appliance.api.routing import services
from appliance.names import ResourceName, last_segment
from appliance.services.images import EDGE_MIN, SEED_MAX, FieldNames, PictureRequest, choose_seeds
from runtime.tasks.images import ImageFormat

PROMPT_LENGTH_MAX = 10_000

PromptText = Annotated[str, msgspec.Meta(min_length=1, max_length=PROMPT_LENGTH_MAX)]
NegativePrompt = Annotated[str, msgspec.Meta(max_length=PROMPT_LENGTH_MAX)]
Edge = Annotated[int, msgspec.Meta(ge=EDGE_MIN, le=16384)]
Guidance = Annotated[float, msgspec.Meta(ge=0, le=50)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=SEED_MAX)]
SchedulerName = Annotated[str, msgspec.Meta(max_length=64)]

NAMES = FieldNames(model="model_id", others={"guidance_scale": "cfg_scale", "image": "init_image"})


class ImageFields(msgspec.Struct, kw_only=True):
    """Of every picture. An absent one is as the model has it."""

    negative_prompt: NegativePrompt | None = None
    cfg_scale: Guidance | None = None
    height: Edge | None = None
    width: Edge | None = None
    sampler: SchedulerName | None = None
    samples: Count | None = None
    steps: Count | None = None
    seed: Seed | None = None
    """0 and none: a random one, which the answer tells."""
    safety_check: bool | None = None
    lora_adapter_name: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    """A LoRA addon that is deployed on this model; another way to ask for the addon itself."""
    lora_weight_filename: str | None = None
    """Without effect: an addon here has one file of weights."""
    style_preset: str | None = None
    """Refused: say it in the prompt."""
    clip_guidance_preset: Literal["NONE"] | None = None
    apply_invisible_watermark: bool | None = None
    """Refused where it is true; so is `return_latents`."""
    return_latents: bool | None = None
    model: str | None = None
    """Without effect: the path says which."""

    def refuse_unserved(self) -> None:
        for name in ("style_preset", "apply_invisible_watermark", "return_latents"):
            if getattr(self, name):
                raise unsupported(name)


def path_model(request: web.Request) -> str:
    """Full name."""
    account_id = request.match_info["account_id"]
    model_id = last_segment(request.match_info["model_id"], account_id, "models", "model_id")
    return str(ResourceName(account_id, "models", model_id))


def asked_model(request: web.Request, fields: ImageFields) -> str:
    return fields.lora_adapter_name or path_model(request)


def asked_form(request: web.Request, fields: ImageFields) -> Form:
    return choose_form(request.headers.get(HEADER, ""), fields.samples or 1, NAMES.of("samples"))


def to_picture(
    request: web.Request, fields: ImageFields, prompt: str, negative_prompt: str | None, form: Form
) -> PictureRequest:
    """Of text alone; raises `invalid` naming the field."""
    fields.refuse_unserved()
    names = replace(NAMES, model="lora_adapter_name") if fields.lora_adapter_name else NAMES
    return PictureRequest(
        names=names,
        addon_of=path_model(request) if fields.lora_adapter_name else None,
        prompt=prompt,
        negative_prompt=negative_prompt or "",
        width=fields.width,
        height=fields.height,
        seeds=choose_seeds(fields.seed or None, fields.samples or 1, names, services(request).config.images),
        num_steps=fields.steps,
        guidance_scale=fields.cfg_scale,
        scheduler=fields.sampler or "",
        checks_safety=bool(fields.safety_check),
        format=file_format(form),
        reports_progress=form is Form.EVENTS,
    )


def file_format(form: Form) -> ImageFormat:
    return "jpeg" if form is Form.JPEG else "png"


def ignored_headers(fields: ImageFields, unknown: str, *idle: str) -> dict[str, str]:
    """`unknown`: names that the API does not have; `idle`: further ones that nothing hangs on here."""
    without_effect = [name for name in ("model", "lora_weight_filename") if getattr(fields, name)]
    names = [name for name in (unknown, *without_effect, *idle) if name]
    return {IGNORED_FIELDS_HEADER: ", ".join(names)} if names else {}
