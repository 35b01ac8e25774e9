import base64
from typing import Any

import msgspec
import pytest

from appliance.api.data.openai_image_answer import ImagesAnswer, OpenAIImageEvent
from tests.appliance.api.conftest import Api
from tests.appliance.api.data.painters import PIXEL, make_painter, post
from tests.fakes.scripted_drawing import FILTERED_PROMPT, NUM_PROMPT_TOKENS, NUM_STEPS, picture_of

IMAGES = "/inference/v1/images"
USAGE = {
    "input_tokens": NUM_PROMPT_TOKENS,
    "input_tokens_details": {"text_tokens": NUM_PROMPT_TOKENS, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": NUM_PROMPT_TOKENS,
}


@pytest.fixture
async def body(api: Api) -> dict[str, Any]:
    return {"model": await make_painter(api), "prompt": "a fox", "seed": 7}


async def test_pictures_are_in_one_body(api: Api, body: dict[str, Any]) -> None:
    answer = await post(api, f"{IMAGES}/generations", body | {"n": 2, "output_format": "jpeg"})
    told = answer.json
    msgspec.convert(told, ImagesAnswer)
    assert told.pop("created") > 1_700_000_000
    assert told == {
        "data": [
            {
                "b64_json": base64.b64encode(picture_of(seed, "jpeg")).decode(),
                "seed": seed,
                "finish_reason": "SUCCESS",
            }
            for seed in (7, 8)
        ],
        "output_format": "jpeg",
        "background": "opaque",
        "usage": USAGE,
    }
    assert answer.headers["fireworks-prompt-tokens"] == str(NUM_PROMPT_TOKENS)


async def test_events_end_with_the_pictures(api: Api, body: dict[str, Any]) -> None:
    answer = await post(api, f"{IMAGES}/generations", body | {"n": 2, "stream": True, "size": "512x768"})
    events = answer.events
    progress, completed = events[:NUM_STEPS], events[NUM_STEPS:]
    assert [(event["type"], event["step"], event["steps"]) for event in progress] == [
        ("image_generation.progress", step, NUM_STEPS) for step in range(1, NUM_STEPS + 1)
    ]
    assert [base64.b64decode(event["b64_json"]) for event in completed] == [picture_of(7), picture_of(8)]
    for event in events:
        msgspec.convert(event, OpenAIImageEvent)
    last = completed[-1]
    assert (last["type"], last["size"], last["usage"]) == ("image_generation.completed", "512x768", USAGE)
    assert answer.body.startswith(b"event: image_generation.progress\ndata: {")


async def test_an_edits_events_have_their_own_names(api: Api, body: dict[str, Any]) -> None:
    answer = await post(api, f"{IMAGES}/edits", body | {"stream": "true", "image": PIXEL})
    types = {event["type"] for event in answer.events}
    assert types == {"image_edit.progress", "image_edit.completed"}
    assert answer.events[-1]["size"] == "auto"


async def test_a_filtered_picture_says_so(api: Api, body: dict[str, Any]) -> None:
    wanted = body | {"prompt": FILTERED_PROMPT, "safety_check": True}
    assert (await post(api, f"{IMAGES}/generations", wanted)).json["data"][0]["finish_reason"] == "CONTENT_FILTERED"
    *_, event = (await post(api, f"{IMAGES}/generations", wanted | {"stream": True})).events
    assert event["finish_reason"] == "CONTENT_FILTERED"
