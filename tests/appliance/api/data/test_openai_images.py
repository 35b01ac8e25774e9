"""Pictures in OpenAI's words: each field as the task has it, masks, and what is refused by name."""

import io
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from runtime.tasks.images import Draw
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.painters import PIXEL, Answer, make_flux_painter, make_painter, post, the_task

IMAGES = "/inference/v1/images"


@pytest.fixture
async def model(api: Api) -> str:
    return await make_painter(api)


async def generate(api: Api, painter: str, **fields: Any) -> Answer:
    return await post(api, f"{IMAGES}/generations", {"model": painter, "prompt": "a fox", **fields})


async def edit(api: Api, painter: str, **fields: Any) -> Answer:
    return await post(api, f"{IMAGES}/edits", {"model": painter, "prompt": "a fox", "image": PIXEL, **fields})


def plain(task: Draw) -> Draw:
    return replace(task, request_id="", tenant="", sent_at=0.0)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


async def test_every_field_reaches_the_task(api: Api, model: str) -> None:
    answer = await generate(
        api,
        model,
        n=2,
        size="512x768",
        response_format="b64_json",
        output_format="jpeg",
        output_compression=100,
        background="auto",
        quality="hd",
        moderation="auto",
        style="vivid",
        user="ada",
        safety_identifier="ada",
        partial_images=0,
        negative_prompt="blurry",
        num_inference_steps=9,
        guidance_scale=4.5,
        seed=5,
        scheduler="K_EULER",
        safety_check=True,
        colour="red",
    )
    assert answer.status == 200, answer.body
    assert answer.headers["hearth-ignored-fields"] == "colour, quality, style"
    assert plain(the_task(api)) == Draw(
        request_id="",
        prompt="a fox",
        negative_prompt="blurry",
        width=512,
        height=768,
        num_steps=9,
        guidance_scale=4.5,
        seeds=[5, 6],
        scheduler="K_EULER",
        checks_safety=True,
        format="jpeg",
    )


async def test_a_prompt_is_enough(api: Api, model: str) -> None:
    for fields in ({}, {"size": "auto", "n": None, "stream": False}):
        assert (await generate(api, model, **fields)).status == 200
        task = the_task(api)
        assert plain(task) == Draw(request_id="", prompt="a fox", seeds=task.seeds)
        api.router.tasks.clear()


async def test_an_edit_begins_with_an_image(api: Api, model: str) -> None:
    assert (await edit(api, model, n="1", size="", input_fidelity="high")).status == 200
    task = the_task(api)
    assert plain(task) == Draw(request_id="", prompt="a fox", seeds=task.seeds, image=PIXEL, strength=0.8)
    api.router.tasks.clear()
    await edit(api, model, strength="0.3", seed="5", size="64x128")
    assert plain(the_task(api)) == Draw(
        request_id="", prompt="a fox", seeds=[5], image=PIXEL, strength=0.3, width=64, height=128
    )


async def test_what_is_transparent_in_a_mask_is_painted_anew(api: Api, model: str) -> None:
    image = Image.new("RGBA", (2, 1), "red")
    image.putpixel((0, 0), (255, 0, 0, 0))
    answer = await edit(api, model, image=png(Image.new("RGB", (2, 1))), mask=png(image))
    assert answer.status == 200, answer.body
    assert pixels(the_task(api).mask) == bytes([255, 0])
    assert the_task(api).strength == 1.0


async def test_image_and_mask_fit_into_one_request_together(api: Api, model: str) -> None:
    images = replace(api.services.config.images, image_request_bytes_max=100)
    api.services.live.current = replace(api.services.config, images=images)
    mask = png(Image.new("RGBA", (2, 1), (0, 0, 0, 0)))
    assert (await edit(api, model, image=png(Image.new("RGB", (2, 1))), mask=mask)).refusal == (413, "mask")


async def test_clients_that_send_a_list_of_one_image_are_understood(api: Api, model: str) -> None:
    body = {"model": model, "prompt": "a fox", "image[]": PIXEL}
    assert (await post(api, f"{IMAGES}/edits", body)).status == 200
    assert the_task(api).image == PIXEL


async def test_what_cannot_be_made_is_refused_by_name(api: Api, model: str) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"model": None}, "model"),
        ({"model": READY_MODEL}, "model"),
        ({"prompt": ""}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"size": "large"}, "size"),
        ({"size": "500x512"}, "size"),
        ({"size": "8192x8192"}, "size"),
        ({"size": "0x512"}, "size"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "webp"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"background": "transparent"}, "background"),
        ({"partial_images": 2, "stream": True}, "partial_images"),
        ({"num_inference_steps": 1000}, "num_inference_steps"),
        ({"seed": -1}, "seed"),
    ]
    for fields, param in refused:
        assert (await generate(api, model, **fields)).refusal == (400, param), fields
    assert not api.router.tasks


async def test_what_cannot_be_edited_is_refused_by_name(api: Api, model: str) -> None:
    opaque, large = png(Image.new("RGBA", (1, 1), "red")), png(Image.new("RGBA", (2, 2)))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"image": b"<svg></svg>"}, "image"),
        ({"image": b"", "mask": large}, "image"),
        ({"mask": b"%PDF"}, "mask"),
        ({"mask": opaque}, "mask"),
        ({"mask": large}, "mask"),
        ({"mask": large[:40]}, "mask"),
        ({"strength": "0"}, "strength"),
        ({"model": None}, "model"),
        ({"model": await make_flux_painter(api)}, "model"),
        ({"n": "many"}, "n"),
    ]
    for fields, param in refused:
        assert (await edit(api, model, **fields)).refusal == (400, param), fields
    assert not api.router.tasks
