"""POST /image_generation/accounts/A/models/M: a text in, one or several pictures out."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web

from appliance.api.codec import decode_json, ignored_fields, read_body
from appliance.api.data.generation import invalid
from appliance.api.data.image_fields import (
    ImageFields,
    PromptText,
    asked_form,
    asked_model,
    ignored_headers,
    to_picture,
)
from appliance.api.data.pictures import IMAGE_FILES, ImageArtifact, ImageEvent, Picture, begin_drawing, respond
from appliance.api.routing import Permission, Route

PATH = "/inference/v1/image_generation/accounts/{account_id}/models/{model_id}"


class WeightedText(msgspec.Struct):
    text: PromptText
    weight: Literal[1, -1] | None = None
    """-1: part of the negative prompt. Others are refused: there is nothing between."""


class ImageBody(ImageFields, kw_only=True):
    prompt: PromptText | None = None
    text_prompts: list[WeightedText] | None = None
    """The older way to say both prompts; in the place of `prompt`."""


async def generate_image(request: web.Request) -> web.StreamResponse:
    """Make pictures of a text.

    The Accept header says how they come: `image/png` or `image/jpeg`, a file; `application/json`, a list;
    `text/event-stream`, events that tell how far they are.
    """
    raw = await read_body(request)
    body = decode_json(raw or b"{}", ImageBody)
    prompt, negative_prompt = _prompts(body)
    form = asked_form(request, body)
    wanted = to_picture(request, body, prompt, negative_prompt, form)
    running = await begin_drawing(request, asked_model(request, body), wanted)
    headers = ignored_headers(body, ignored_fields(raw, ImageBody))
    return await respond(request, running, wanted, form, headers, list_artifacts)


def list_artifacts(pictures: Sequence[Picture]) -> list[ImageArtifact]:
    return [picture.artifact() for picture in pictures]


def _prompts(body: ImageBody) -> tuple[str, str | None]:
    if body.prompt is not None:
        if body.text_prompts:
            raise invalid("text_prompts", "say the same as prompt; give one of them")
        return body.prompt, body.negative_prompt
    texts = body.text_prompts or []
    wanted = [text.text for text in texts if text.weight != -1]
    if not wanted:
        raise invalid("prompt", "this field is required")
    unwanted = [text.text for text in texts if text.weight == -1]
    if unwanted and body.negative_prompt:
        raise invalid("negative_prompt", "is said by text_prompts too; give one of them")
    return ", ".join(wanted), ", ".join(unwanted) or body.negative_prompt


ROUTES = [
    Route(
        "POST",
        PATH,
        generate_image,
        Permission.INFER,
        ImageBody,
        answer=ImageArtifact,
        is_array=True,
        other_answers=IMAGE_FILES,
        event=ImageEvent,
    ),
]
