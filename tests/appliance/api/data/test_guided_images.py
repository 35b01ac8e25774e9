"""Forms with an image in them: image to image, and ControlNets."""

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from runtime.tasks.images import Control, Draw
from tests.appliance.api.conftest import Api
from tests.appliance.api.data.painters import PIXEL, Answer, make_flux_painter, make_painter, post, the_task
from tests.fakes.scripted_drawing import CONTROL_NET, picture_of

SENT_BY_CLIENTS = {
    "model": "stable-diffusion-xl-1024-v1-0",
    "cfg_scale": None,
    "sampler": None,
    "samples": 1,
    "steps": None,
    "height": None,
    "width": None,
    "crop_padding": "true",
    "safety_check": "false",
    "apply_invisible_watermark": "false",
    "return_latents": "false",
    "negative_prompt": None,
    "style_preset": None,
    "lora_adapter_name": None,
    "clip_guidance_preset": "NONE",
}
"""By the package `fireworks-ai`, whatever its caller says."""


@pytest.fixture
async def model(api: Api) -> str:
    return await make_painter(api)


async def transform(api: Api, painter: str, accept: str | None = None, /, **fields: Any) -> Answer:
    body = {"init_image": PIXEL, "prompt": "a fox", "image_strength": "0.75", **fields}
    return await post(api, f"/inference/v1/image_generation/{painter}/image_to_image", body, accept)


async def follow(api: Api, painter: str, accept: str | None = None, /, **fields: Any) -> Answer:
    body = {"control_image": PIXEL, "prompt": "a fox", "control_net_name": CONTROL_NET, **fields}
    return await post(api, f"/inference/v1/image_generation/{painter}/control_net", body, accept)


def plain(task: Draw) -> Draw:
    return replace(task, request_id="", tenant="", sent_at=0.0)


async def test_an_image_is_where_the_picture_begins(api: Api, model: str) -> None:
    answer = await transform(api, model, "image/jpeg", **SENT_BY_CLIENTS, seed=7)
    assert (answer.status, answer.body) == (200, picture_of(7, "jpeg"))
    assert (answer.headers["seed"], answer.headers["finish-reason"]) == ("7", "SUCCESS")
    assert answer.headers["hearth-ignored-fields"] == "model"
    expected = Draw(request_id="", prompt="a fox", seeds=[7], image=PIXEL, strength=0.25, format="jpeg")
    assert plain(the_task(api)) == expected


async def test_the_steps_may_say_how_much_is_painted_over(api: Api, model: str) -> None:
    mode = {"init_image_mode": "STEP_SCHEDULE", "image_strength": None}
    for fields, strength in (
        ({}, 0.65),
        ({"step_schedule_start": "0.3"}, 0.3),
        ({"step_schedule_start": "1", "step_schedule_end": "0"}, 1.0),
    ):
        assert (await transform(api, model, **mode, **fields)).status == 200
        assert the_task(api).strength == strength
        api.router.tasks.clear()


async def test_a_control_net_follows_an_image(api: Api, model: str) -> None:
    answer = await follow(api, model, **SENT_BY_CLIENTS, seed=7)
    assert (answer.status, answer.body) == (200, picture_of(7))
    control = Control(name=CONTROL_NET, image=PIXEL, scale=0.5, start=0.0, end=1.0)
    assert plain(the_task(api)) == Draw(request_id="", prompt="a fox", seeds=[7], control=control)


async def test_a_control_net_counts_as_much_and_as_long_as_is_said(api: Api, model: str) -> None:
    schedule = {"step_schedule_start": "0.1", "step_schedule_end": "0.6"}
    await follow(api, model, conditioning_scale="0.9", **schedule, crop_padding="false", steps="4")
    assert the_task(api).control == Control(name=CONTROL_NET, image=PIXEL, scale=0.9, start=0.1, end=0.6)
    assert the_task(api).num_steps == 4


async def test_answers_come_in_the_forms_of_pictures_of_text(api: Api, model: str) -> None:
    several = await transform(api, model, samples=2, seed=7)
    assert [base64.b64decode(image["base64"]) for image in several.json] == [picture_of(7), picture_of(8)]
    *_, drawn = (await follow(api, model, "text/event-stream", seed=7)).events
    assert drawn["images"][0]["seed"] == 7
    ignored = await transform(api, model, crop_padding="false", colour="red")
    assert ignored.headers["hearth-ignored-fields"] == "colour, crop_padding"


async def test_what_cannot_be_transformed_is_refused_by_name(api: Api, model: str) -> None:
    schedule = {"init_image_mode": "STEP_SCHEDULE"}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"init_image": b""}, "init_image"),
        ({"init_image": b"<svg></svg>"}, "init_image"),
        ({"init_image": b"GIF89a" + bytes(5 * 1024 * 1024)}, "init_image"),
        ({"prompt": None}, "prompt"),
        ({"image_strength": None}, "image_strength"),
        ({"image_strength": "1"}, "image_strength"),
        ({"image_strength": "nan"}, "image_strength"),
        ({"init_image_mode": "SOME"}, "init_image_mode"),
        ({**schedule, "step_schedule_start": "0"}, "step_schedule_start"),
        ({**schedule, "step_schedule_end": "0.5"}, "step_schedule_end"),
        ({"steps": "many"}, "steps"),
        ({"style_preset": "anime"}, "style_preset"),
        ({"width": "500"}, "width"),
    ]
    for fields, param in refused:
        answer = await transform(api, model, **fields)
        assert answer.refusal == (413 if len(fields.get("init_image", b"")) > 1000 else 400, param), fields
    assert not api.router.tasks


async def test_what_cannot_be_followed_is_refused_by_name(api: Api, model: str) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"control_image": b"%PDF"}, "control_image"),
        ({"control_net_name": None}, "control_net_name"),
        ({"control_net_name": "depth"}, "control_net_name"),
        ({"conditioning_scale": "-1"}, "conditioning_scale"),
        ({"step_schedule_start": "0.5", "step_schedule_end": "0.5"}, "step_schedule_end"),
    ]
    for fields, param in refused:
        assert (await follow(api, model, **fields)).refusal == (400, param), fields
    flux = await make_flux_painter(api)
    assert (await follow(api, flux)).refusal == (400, "control_net_name")
    assert (await transform(api, flux)).refusal == (400, "model_id")
    path = f"/inference/v1/image_generation/{model}/image_to_image"
    assert (await post(api, path, {"prompt": "a fox"})).status == 400  # no form
    assert not api.router.tasks
