"""What a picture is to be, as any of the routes that make one asks for it.

Checks what hangs on the model and on this machine's limits; everything else of a request its route has checked.
Knows no wire format, but names fields as the route's clients do, and runs nothing.
"""

import math
import secrets
from collections.abc import Callable

import msgspec

from appliance.config import Config, ImageSettings
from appliance.errors import Code, HearthError
from appliance.services.demands import Demand
from appliance.services.prompt_size import BYTES_PER_TOKEN, PromptSize
from appliance.services.targets import Target
from models.info import DiffusionInfo
from runtime.tasks.images import Control, Draw, ImageFormat

SEED_MAX = 2**63 - 1
RANDOM_SEED_MAX = 2**32 - 1
"""Such as clients of any language can write down."""
EDGE_MIN = 64
"""Pixels."""
MULTIPLE_OF = {"sdxl": 8, "flux": 16}
"""Pixels that both edges of a picture are made of, by pipeline."""


class FieldNames(msgspec.Struct, frozen=True):
    """As the clients of a route spell them."""

    model: str = "model"
    others: dict[str, str] = {}
    """By the name that a worker's refusals have for it, where that is another one."""

    def of(self, name: str) -> str:
        return self.others.get(name, name)


def in_clients_words(error: HearthError, names: FieldNames) -> HearthError:
    """A worker's refusal, about a field by its name on this route."""
    if error.param is None or (name := names.of(error.param)) == error.param:
        return error
    _, colon, reason = error.message.partition(": ")
    return HearthError(error.code, f"{name}: {reason}" if colon else error.message, name, error.retry_after_s)


class PictureRequest(msgspec.Struct, frozen=True, kw_only=True):
    names: FieldNames
    addon_of: str | None = None
    """The base model that the addon which was asked for has to belong to."""
    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    aspect: tuple[int, int] | None = None
    """Width to height, in the place of both: of as many pixels as the model makes when nobody says."""
    seeds: list[int]
    """See `choose_seeds`."""
    num_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str = ""
    image: bytes = b""
    strength: float = 0.8
    mask: bytes = b""
    control: Control | None = None
    checks_safety: bool = False
    format: ImageFormat = "png"
    reports_progress: bool = False


def choose_seeds(seed: int | None, num_images: int, names: FieldNames, settings: ImageSettings) -> list[int]:
    """One for each picture, each one more than the one before; None: from anywhere."""
    _check_at_most(names.of("samples"), num_images, settings.pictures_max)
    first = 1 + secrets.randbelow(RANDOM_SEED_MAX) if seed is None else seed
    return [(first + index) % (SEED_MAX + 1) for index in range(num_images)]


def drawing_demand(wanted: PictureRequest) -> Demand:
    size_bytes = len(wanted.prompt.encode()) + len(wanted.negative_prompt.encode())
    prompt = PromptSize(-(-size_bytes // BYTES_PER_TOKEN), size_bytes)
    return Demand(prompt, num_images=len(wanted.seeds))


def draw_by(wanted: PictureRequest, config: Config) -> Callable[[Target], Draw]:
    """Raises `invalid` for more than this machine does, and, once the model is known, for what that cannot do."""
    _check_at_most(wanted.names.of("steps"), wanted.num_steps or 1, config.images.picture_steps_max)
    return lambda target: _to_draw(wanted, target, config.fleet.picture_pixels_max)


def _to_draw(wanted: PictureRequest, target: Target, pixels_max: int) -> Draw:
    param = wanted.names.model
    info = drawing_info(target, param)
    if wanted.addon_of is not None and target.model.name != wanted.addon_of:
        raise HearthError(Code.INVALID, f"{param}: this addon belongs to {target.model.name}", param)
    _check_inputs(wanted, info)
    width, height = _edges(wanted, info)
    _check_size(wanted, info, width, height, pixels_max)
    return Draw(
        request_id="",
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        width=width,
        height=height,
        num_steps=wanted.num_steps,
        guidance_scale=wanted.guidance_scale,
        seeds=wanted.seeds,
        scheduler=wanted.scheduler,
        image=wanted.image,
        strength=wanted.strength,
        mask=wanted.mask,
        control=wanted.control,
        checks_safety=wanted.checks_safety,
        format=wanted.format,
        reports_progress=wanted.reports_progress,
    )


def drawing_info(target: Target, param: str) -> DiffusionInfo:
    """Raises `invalid` for a model of another kind."""
    info = target.model.info
    if not isinstance(info, DiffusionInfo):
        raise HearthError(Code.INVALID, f"{param}: {target.model.name} does not make pictures", param)
    return info


def _check_at_most(param: str, value: int, maximum: int) -> None:
    if value > maximum:
        raise HearthError(Code.INVALID, f"{param}: must be at most {maximum}", param)


def _check_inputs(wanted: PictureRequest, info: DiffusionInfo) -> None:
    if info.pipeline != "sdxl" and (wanted.image or wanted.mask):
        param = wanted.names.model
        message = f"{param}: this model makes pictures of text only, not of other pictures"
        raise HearthError(Code.INVALID, message, param)
    if info.pipeline == "flux" and wanted.negative_prompt:
        raise HearthError(Code.INVALID, "negative_prompt: FLUX models take none", "negative_prompt")
    if wanted.control is not None and wanted.control.name not in info.control_nets:
        installed = ", ".join(info.control_nets) or "none"
        message = f"control_net_name: this model has no {wanted.control.name[:100]!r}; installed: {installed}"
        raise HearthError(Code.INVALID, message, "control_net_name")


def _edges(wanted: PictureRequest, info: DiffusionInfo) -> tuple[int | None, int | None]:
    if wanted.aspect is None:
        return wanted.width, wanted.height
    wide, high = wanted.aspect
    multiple = MULTIPLE_OF[info.pipeline]

    def rounded(edge: float) -> int:
        return max(EDGE_MIN, round(edge / multiple) * multiple)

    scale = info.default_size / math.sqrt(wide * high)
    return rounded(wide * scale), rounded(high * scale)


def _check_size(
    wanted: PictureRequest, info: DiffusionInfo, width: int | None, height: int | None, pixels_max: int
) -> None:
    multiple = MULTIPLE_OF[info.pipeline]
    for name, edge in (("width", width), ("height", height)):
        if edge is not None and edge % multiple:
            param = wanted.names.of(name)
            message = f"{param}: the {name} {edge} is no multiple of {multiple}"
            raise HearthError(Code.INVALID, message, param)
    if (width or info.default_size) * (height or info.default_size) > pixels_max:
        param = wanted.names.of("height" if width is None else "width")
        raise HearthError(Code.INVALID, f"{param}: a picture has at most {pixels_max} pixels", param)
