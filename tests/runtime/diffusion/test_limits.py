"""What cannot be drawn is refused before anything is decoded, by the name of the field."""

from typing import Any

import pytest

from runtime.tasks.images import Control
from tests.fakes.tiny_diffusion import CONTROL_NET
from tests.runtime.diffusion.conftest import Studio, mask, picture, png, refusal_of

CONTROL: dict[str, Any] = {"name": CONTROL_NET, "image": png(picture())}
NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "param", "why"),
    [
        ({"seeds": []}, "samples", "0 pictures"),
        ({"seeds": [1] * 17}, "samples", "1 to 16"),
        ({"seeds": [-1]}, "seed", "from 0"),
        ({"seeds": [2**64]}, "seed", "from 0"),
        ({"num_steps": 0}, "steps", "1 to 200"),
        ({"num_steps": 201}, "steps", "1 to 200"),
        ({"guidance_scale": NAN}, "guidance_scale", "nan"),
        ({"guidance_scale": -1.0}, "guidance_scale", "from 0"),
        ({"adapter_scale": 1e9}, "lora_scale", "from -10"),
        ({"width": 65}, "width", "multiple of 8"),
        ({"height": 56}, "height", "at least 64"),
        ({"width": 0}, "width", "at least 64"),
        ({"width": 2**40}, "width", "pixels made at most"),
        ({"width": 512, "height": 512}, "width", "pixels made at most"),
        ({"prompt": "a" * 10_001}, "prompt", "characters"),
        ({"negative_prompt": "a" * 10_001}, "negative_prompt", "characters"),
        ({"scheduler": "K_DPMPP_3M"}, "sampler", "K_EULER"),
        ({"mask": png(mask())}, "mask", "no image"),
        ({"image": png(picture()), "strength": 0.0}, "strength", "more than 0"),
        ({"image": png(picture()), "strength": NAN}, "strength", "nan"),
        ({"image": png(picture()), "strength": 0.2}, "strength", "not one"),
        ({"image": png(picture()), "width": 64}, "width", "both"),
        ({"control": Control(**CONTROL | {"name": "depth"})}, "control_net_name", "canny"),
        ({"control": Control(**CONTROL | {"name": "../unet"})}, "control_net_name", "canny"),
        ({"control": Control(**CONTROL, scale=NAN)}, "conditioning_scale", "nan"),
        ({"control": Control(**CONTROL, start=0.6, end=0.5)}, "step_schedule_start", "before the end"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_what_cannot_be_drawn_is_refused_by_name(sdxl: Studio, fields: dict[str, Any], param: str, why: str) -> None:
    refusal = refusal_of(sdxl, **fields)
    assert refusal.param == param
    assert why in refusal.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"negative_prompt": "blurry"}, "negative_prompt"),
        ({"image": png(picture())}, "image"),
        ({"control": Control(**CONTROL)}, "control_net_name"),
        ({"scheduler": "K_HEUN"}, "sampler"),
        ({"checks_safety": True}, "safety_check"),
        ({"width": 72}, "width"),
    ],
)
def test_what_flux_has_not_is_refused_by_name(flux: Studio, fields: dict[str, Any], param: str) -> None:
    assert refusal_of(flux, **fields).param == param
