"""How FLUX models are asked."""

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from runtime.tasks.images import Draw
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.painters import Answer, make_flux_painter, post, the_task
from tests.fakes.scripted_drawing import NUM_STEPS, picture_of


@pytest.fixture
async def model(api: Api) -> str:
    return await make_flux_painter(api)


async def draw(api: Api, painter: str, accept: str | None = None, /, **fields: Any) -> Answer:
    return await post(api, f"/inference/v1/workflows/{painter}/text_to_image", {"prompt": "a fox", **fields}, accept)


async def test_the_picture_comes_as_it_is_accepted(api: Api, model: str) -> None:
    for accept, format in (("image/png", "png"), ("image/jpeg", "jpeg"), (None, "png"), ("*/*", "png")):
        answer = await draw(api, model, accept, seed=7)
        assert (answer.status, answer.body) == (200, picture_of(7, format))
        assert answer.headers["content-type"] == f"image/{format}"
        assert (answer.headers["seed"], answer.headers["finish-reason"]) == ("7", "SUCCESS")


async def test_json_is_an_object(api: Api, model: str) -> None:
    told = (await draw(api, model, "application/json", seed=7)).json
    assert told.pop("id")
    image = base64.b64encode(picture_of(7)).decode()
    assert told == {"base64": [image], "finishReason": "SUCCESS", "seed": 7}


async def test_progress_comes_as_events(api: Api, model: str) -> None:
    *drawing, drawn = (await draw(api, model, "text/event-stream", seed=7)).events
    assert [event["step"] for event in drawing] == list(range(1, NUM_STEPS + 1))
    assert base64.b64decode(drawn["images"][0]["base64"]) == picture_of(7)


async def test_every_field_reaches_the_task(api: Api, model: str) -> None:
    answer = await draw(
        api, model, aspect_ratio="16:9", guidance_scale=3.5, num_inference_steps=4, seed=5, safety_check=True, colour=1
    )
    assert answer.headers["hearth-ignored-fields"] == "colour"
    assert replace(the_task(api), request_id="", tenant="", sent_at=0.0) == Draw(
        request_id="",
        prompt="a fox",
        width=1360,
        height=768,
        guidance_scale=3.5,
        num_steps=4,
        seeds=[5],
        checks_safety=True,
    )


async def test_some_clients_say_width_height_and_steps(api: Api, model: str) -> None:
    await draw(api, model, width=512, height=768, steps=6)
    task = the_task(api)
    assert (task.width, task.height, task.num_steps) == (512, 768, 6)


async def test_no_seed_and_none_are_a_random_one(api: Api, model: str) -> None:
    seeds = {(await draw(api, model, **fields)).headers["seed"] for fields in ({}, {"seed": 0})}
    assert len(seeds) == 2
    assert "0" not in seeds


async def test_what_cannot_be_made_is_refused_by_name(api: Api, model: str) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"prompt": ""}, "prompt"),
        ({"aspect_ratio": "7:3"}, "aspect_ratio"),
        ({"aspect_ratio": "1:1", "width": 512}, "aspect_ratio"),
        ({"steps": 4, "num_inference_steps": 4}, "steps"),
        ({"num_inference_steps": 500}, "num_inference_steps"),
        ({"width": 520}, "width"),
        ({"negative_prompt": "blurry"}, "negative_prompt"),
        ({"seed": -1}, "seed"),
    ]
    for fields, param in refused:
        assert (await draw(api, model, **fields)).refusal == (400, param), fields
    assert (await draw(api, model, "text/html")).refusal == (400, "accept")
    assert (await draw(api, READY_MODEL)).refusal == (400, "model_id")
    assert not api.router.tasks
