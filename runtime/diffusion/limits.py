"""What of a Draw can be said without the model's files: each field in its range, and which of them go together."""

import math
from typing import NoReturn

from models.info import DiffusionInfo
from runtime.engine import RequestRefused
from runtime.message import FailureCode
from runtime.tasks.images import Draw

PICTURES_MAX = 16
"""Of one request."""
STEPS_MAX = 200
PROMPT_CHARACTERS_MAX = 10_000
"""The text encoders read a few hundred tokens of it; the rest is cut off."""
EDGE_MIN = 64
GUIDANCE_MAX = 100.0
SCALE_MAX = 10.0
_SEED_END = 2**64


def check_limits(draw: Draw, info: DiffusionInfo, *, max_pixels: int) -> None:
    """Raises RequestRefused naming the field."""
    for name, text in (("prompt", draw.prompt), ("negative_prompt", draw.negative_prompt)):
        if len(text) > PROMPT_CHARACTERS_MAX:
            refuse(f"{name}: has {len(text)} characters; at most {PROMPT_CHARACTERS_MAX} are taken", name)
    if not 1 <= len(draw.seeds) <= PICTURES_MAX:
        refuse(f"samples: {len(draw.seeds)} pictures are asked for; one request gives 1 to {PICTURES_MAX}", "samples")
    if not all(0 <= seed < _SEED_END for seed in draw.seeds):
        refuse(f"seed: must be from 0 to {_SEED_END - 1}", "seed")
    if draw.num_steps is not None and not 1 <= draw.num_steps <= STEPS_MAX:
        refuse(f"steps: must be from 1 to {STEPS_MAX}, and is {draw.num_steps}", "steps")
    _check_range("guidance_scale", draw.guidance_scale, 0, GUIDANCE_MAX)
    _check_range("lora_scale", draw.adapter_scale, -SCALE_MAX, SCALE_MAX)
    _check_size(draw, info, max_pixels)
    _check_pictures(draw, info)
    if info.pipeline == "flux":
        _check_flux(draw)


def refuse(message: str, param: str | None = None) -> NoReturn:
    raise RequestRefused(FailureCode.INVALID, message, param)


def size_multiple(info: DiffusionInfo) -> int:
    """Both edges of a picture are multiples of so many pixels."""
    return 16 if info.pipeline == "flux" else 8


def _check_range(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        refuse(f"{name}: must be from {least:g} to {most:g}, and is {value:g}", name)


def _check_size(draw: Draw, info: DiffusionInfo, max_pixels: int) -> None:
    multiple = size_multiple(info)
    for name, edge in (("width", draw.width), ("height", draw.height)):
        if edge is not None and (edge < EDGE_MIN or edge % multiple):
            refuse(f"{name}: must be a multiple of {multiple}, and at least {EDGE_MIN}; it is {edge}", name)
    if draw.image and (draw.width is None) is not (draw.height is None):
        refuse("width and height: beside an image both are given, or neither", "width")
    width, height = draw.width or info.default_size, draw.height or info.default_size
    if width * height > max_pixels:
        refuse(f"width and height: {width} by {height} is more than the {max_pixels} pixels made at most", "width")


def _check_pictures(draw: Draw, info: DiffusionInfo) -> None:
    if draw.mask and not draw.image:
        refuse("mask: says what to paint anew of an image, and there is no image", "mask")
    if draw.image and not (math.isfinite(draw.strength) and 0 < draw.strength <= 1):
        refuse(f"strength: must be more than 0 and at most 1, and is {draw.strength:g}", "strength")
    control = draw.control
    if control is None:
        return
    if control.name not in info.control_nets:
        known = ", ".join(info.control_nets) or "none"
        refuse(f"control_net_name: this model's ControlNets are: {known}", "control_net_name")
    _check_range("conditioning_scale", control.scale, 0, SCALE_MAX)
    if not 0 <= control.start < control.end <= 1:
        message = "step_schedule_start and step_schedule_end: must be from 0 to 1, the start before the end"
        refuse(message, "step_schedule_start")


def _check_flux(draw: Draw) -> None:
    if draw.negative_prompt:
        refuse("negative_prompt: FLUX models take none", "negative_prompt")
    if draw.image:
        refuse("image: this model makes pictures from text only", "image")
