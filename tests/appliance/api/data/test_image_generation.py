"""A text in, pictures out: each form of an answer, each field as the task has it, and what is refused by name."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from appliance.errors import Code, HearthError
from runtime.protocol import AnyFollowUp, AnyPiece, OtherTask
from runtime.tasks.images import Draw, Drawing
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.data.painters import Answer, make_painter, post, the_task
from tests.fakes.scripted_drawing import FILTERED_PROMPT, NUM_PROMPT_TOKENS, NUM_STEPS, picture_of
from tests.waiting import until

PROMPT = {"prompt": "a fox"}


@pytest.fixture
async def model(api: Api) -> str:
    return await make_painter(api)


async def generate(api: Api, model: str, accept: str | None = None, /, **fields: Any) -> Answer:
    return await post(api, f"/inference/v1/image_generation/{model}", PROMPT | fields, accept)


async def test_every_base_url_leads_there(api: Api, model: str) -> None:
    for prefix in ("/inference/v1", "/v1", "/inference/v1/v1"):
        assert (await post(api, f"{prefix}/image_generation/{model}", PROMPT)).status == 200


async def test_one_picture_is_a_file(api: Api, model: str) -> None:
    answer = await generate(api, model, seed=7)
    assert (answer.status, answer.body) == (200, picture_of(7))
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert (answer.headers["seed"], answer.headers["finish-reason"]) == ("7", "SUCCESS")
    assert answer.headers["fireworks-prompt-tokens"] == str(NUM_PROMPT_TOKENS)
    assert answer.headers["fireworks-deployment"].startswith("accounts/hearth/deployments/")
    assert float(answer.headers["fireworks-server-processing-time"]) > 0


async def test_the_format_is_the_one_that_is_accepted(api: Api, model: str) -> None:
    answer = await generate(api, model, "image/jpeg", seed=7)
    assert (answer.headers["content-type"], answer.body) == ("image/jpeg", picture_of(7, "jpeg"))
    assert the_task(api).format == "jpeg"


async def test_several_pictures_are_a_list(api: Api, model: str) -> None:
    for accept in (None, "application/json"):
        answer = await generate(api, model, accept, seed=7, samples=3)
        assert answer.json == [
            {"base64": base64.b64encode(picture_of(seed)).decode(), "finishReason": "SUCCESS", "seed": seed}
            for seed in (7, 8, 9)
        ]
    assert (await generate(api, model, "image/png", samples=2)).refusal == (400, "samples")
    assert (await generate(api, model, "application/json")).json[0]["finishReason"] == "SUCCESS"


async def test_progress_comes_as_events_on_request(api: Api, model: str) -> None:
    *drawing, drawn = (await generate(api, model, "text/event-stream", seed=7, samples=2)).events
    assert drawing == [{"step": step, "steps": NUM_STEPS} for step in range(1, NUM_STEPS + 1)]
    assert (drawn["step"], drawn["steps"]) == (NUM_STEPS, NUM_STEPS)
    assert [image["seed"] for image in drawn["images"]] == [7, 8]
    assert base64.b64decode(drawn["images"][1]["base64"]) == picture_of(8)
    assert not (await generate(api, model, seed=7)).headers["content-type"].startswith("text")


async def test_a_filtered_picture_says_so(api: Api, model: str) -> None:
    wanted = {"prompt": FILTERED_PROMPT, "safety_check": True}
    assert (await generate(api, model, **wanted)).headers["finish-reason"] == "CONTENT_FILTERED"
    assert (await generate(api, model, "application/json", **wanted)).json[0]["finishReason"] == "CONTENT_FILTERED"
    assert (await generate(api, model, prompt=FILTERED_PROMPT)).headers["finish-reason"] == "SUCCESS"


async def test_no_seed_and_none_are_a_random_one(api: Api, model: str) -> None:
    answers = [await generate(api, model, **fields) for fields in ({}, {"seed": 0}, {"seed": None})]
    seeds = [int(answer.headers["seed"]) for answer in answers]
    assert len(set(seeds)) == 3
    assert 0 not in seeds
    tasks = [task for task in api.router.tasks if isinstance(task, Draw)]
    assert [task.seeds for task in tasks] == [[seed] for seed in seeds]


async def test_every_field_reaches_the_task(api: Api, model: str) -> None:
    answer = await generate(
        api,
        model,
        negative_prompt="blurry",
        cfg_scale=4,
        height=512,
        width=768,
        sampler="K_EULER",
        samples=1,
        steps=9,
        seed=5,
        safety_check=True,
        style_preset=None,
        clip_guidance_preset="NONE",
        apply_invisible_watermark=False,
        return_latents=False,
        model="stable-diffusion-xl-1024-v1-0",
        colour="red",
    )
    assert answer.headers["hearth-ignored-fields"] == "colour, model"
    task = the_task(api)
    assert msgspec.structs.replace(task, request_id="", tenant="", sent_at=0.0) == Draw(
        request_id="",
        prompt="a fox",
        negative_prompt="blurry",
        guidance_scale=4.0,
        height=512,
        width=768,
        scheduler="K_EULER",
        num_steps=9,
        seeds=[5],
        checks_safety=True,
    )
    assert task.tenant == "hearth"


async def test_older_clients_say_both_prompts_in_a_list(api: Api, model: str) -> None:
    texts = [{"text": "a fox", "weight": 1}, {"text": "snow"}, {"text": "blurry", "weight": -1}]
    await generate(api, model, prompt=None, text_prompts=texts)
    assert (the_task(api).prompt, the_task(api).negative_prompt) == ("a fox, snow", "blurry")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 10_001}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"text_prompts": [{"text": "x"}]}, "text_prompts"),
    ({"prompt": None, "text_prompts": [{"text": "x", "weight": 2}]}, "text_prompts[0].weight"),
    ({"prompt": None, "text_prompts": [{"text": "x", "weight": -1}]}, "prompt"),
    (
        {"prompt": None, "negative_prompt": "n", "text_prompts": [{"text": "x"}, {"text": "y", "weight": -1}]},
        "negative_prompt",
    ),
    ({"width": 0}, "width"),
    ({"width": -64}, "width"),
    ({"height": 1028}, "height"),
    ({"height": 16384, "width": 16384}, "width"),
    ({"height": 2**40}, "height"),
    ({"steps": 0}, "steps"),
    ({"steps": 151}, "steps"),
    ({"samples": 0}, "samples"),
    ({"samples": 11}, "samples"),
    ({"samples": 2**31 - 1}, "samples"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"cfg_scale": -1}, "cfg_scale"),
    ({"sampler": "x" * 65}, "sampler"),
    ({"style_preset": "anime"}, "style_preset"),
    ({"clip_guidance_preset": "FAST_BLUE"}, "clip_guidance_preset"),
    ({"apply_invisible_watermark": True}, "apply_invisible_watermark"),
    ({"return_latents": True}, "return_latents"),
]


async def test_what_cannot_be_made_is_refused_by_name(api: Api, model: str) -> None:
    for fields, param in REFUSED:
        assert (await generate(api, model, **fields)).refusal == (400, param), fields
    assert not api.router.tasks


async def test_only_models_that_draw_are_asked(api: Api, model: str) -> None:
    assert (await generate(api, READY_MODEL)).refusal == (400, "model_id")
    assert (await generate(api, "accounts/hearth/models/nobody")).status == 404
    assert (await generate(api, model, "text/html")).refusal == (400, "accept")
    assert not api.router.tasks


async def test_an_addon_can_be_named_beside_its_model(api: Api, model: str) -> None:
    answer = await generate(api, model, lora_adapter_name=model, lora_weight_filename="w.safetensors")
    assert (answer.status, answer.headers["hearth-ignored-fields"]) == (200, "lora_weight_filename")
    other = await make_painter(api)
    assert (await generate(api, model, lora_adapter_name=other)).refusal == (400, "lora_adapter_name")
    assert (await generate(api, model, lora_adapter_name="somebody/lora")).status == 404


async def test_a_workers_refusal_is_about_the_clients_field(api: Api, model: str) -> None:
    async def refuse(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece], None]:
        if isinstance(task, Draw):
            raise HearthError(Code.INVALID, "guidance_scale: must be less", "guidance_scale")
        yield []

    api.router.task_script = refuse
    assert (await generate(api, model)).refusal == (400, "cfg_scale")
    streamed = await generate(api, model, "text/event-stream")
    assert streamed.refusal == (400, "cfg_scale")


async def test_an_answer_that_lacks_a_picture_is_none(api: Api, model: str) -> None:
    async def forget(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece], None]:
        yield [Drawing(request_id=task.request_id, num_steps_done=1, num_steps=1, is_last=True)]

    api.router.task_script = forget
    assert (await generate(api, model)).status == 500
    assert b'"error"' in (await generate(api, model, "text/event-stream")).body


async def test_who_leaves_ends_the_work(api: Api, model: str) -> None:
    async def draw_for_ever(
        task: OtherTask, follow_ups: AsyncIterator[AnyFollowUp] | None
    ) -> AsyncGenerator[list[AnyPiece], None]:
        while True:
            yield [Drawing(request_id=task.request_id, num_steps_done=1, num_steps=9)]
            await asyncio.sleep(0.01)

    api.router.task_script = draw_for_ever
    path = f"/inference/v1/image_generation/{model}"
    for accept in ("image/png", "text/event-stream"):
        num_aborted = len(api.router.aborted)
        headers = api.bearer() | {"Accept": accept}
        asking = asyncio.create_task(ask_for_ever(api, path, headers))
        await until(lambda: api.router.num_leased)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: not api.router.num_leased)
        assert len(api.router.aborted) == num_aborted + 1


async def ask_for_ever(api: Api, path: str, headers: dict[str, str]) -> None:
    async with api.session.post(path, json=PROMPT, headers=headers) as response:
        await response.read()


async def test_pictures_are_metered(api: Api, model: str) -> None:
    await generate(api, model, samples=3)
    await generate(api, model)
    await api.services.accounting.flush()
    now = datetime.now(UTC)
    day = timedelta(days=1)
    span = {"startTime": f"{now - day:%FT%TZ}", "endTime": f"{now + day:%FT%TZ}"}
    async with api.session.get("/v1/accounts/hearth/billingUsage", params=span, headers=api.bearer()) as response:
        told = await response.text()
    assert '"imageCount":"4"' in told
    assert f'"promptTokens":"{2 * NUM_PROMPT_TOKENS}"' in told
