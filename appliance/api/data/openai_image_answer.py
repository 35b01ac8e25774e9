"""Pictures as clients of OpenAI's routes read them: one JSON body, or events that end with the pictures.

Knows no field of a request (`openai_images.py`).
"""

import base64
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import msgspec
from aiohttp import web

from appliance.api.codec import json_response, stream_events
from appliance.api.data.calls import Running
from appliance.api.data.pictures import Picture, collect, complete, drawn_pieces
from appliance.services.images import PictureRequest
from runtime.message import Used
from runtime.tasks.images import Drawing, Drawn, ImageFormat

Operation = Literal["image_generation", "image_edit"]
"""What the types of the events begin with."""
_encode = msgspec.json.Encoder().encode


class InputTokensDetails(msgspec.Struct):
    text_tokens: int
    image_tokens: int = 0


class ImageUsage(msgspec.Struct):
    """Pictures are not made of tokens here: only the prompt is counted in them."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    total_tokens: int
    output_tokens: int = 0


class ImageData(msgspec.Struct):
    b64_json: str
    seed: int
    """With which the same picture is made again."""
    finish_reason: str
    """SUCCESS, or CONTENT_FILTERED of one that the safety check kept back, which is black."""


class ImagesAnswer(msgspec.Struct, kw_only=True):
    created: int
    data: list[ImageData]
    output_format: ImageFormat
    usage: ImageUsage
    background: Literal["opaque"] = "opaque"


class OpenAIImageEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`….progress` says how far it is, `….completed` holds a picture."""

    type: str
    created_at: int
    step: int | None = None
    steps: int | None = None
    b64_json: str | None = None
    seed: int | None = None
    finish_reason: str | None = None
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: ImageFormat | None = None
    usage: ImageUsage | None = None


async def respond(
    request: web.Request, running: Running, wanted: PictureRequest, operation: Operation, headers: dict[str, str]
) -> web.StreamResponse:
    if wanted.reports_progress:
        return await stream_events(request, _events(running, wanted, operation), headers | running.first_headers())
    pictures = await collect(running, wanted)
    answer = ImagesAnswer(
        created=int(time.time()),
        data=[ImageData(_base64(picture), picture.seed, picture.finish_reason) for picture in pictures],
        output_format=wanted.format,
        usage=_usage(running.used),
    )
    return json_response(answer, headers=headers | running.headers())


async def _events(running: Running, wanted: PictureRequest, operation: Operation) -> AsyncGenerator[bytes, None]:
    """A picture goes out when all are there: what they used together is known by then."""
    pictures: dict[int, Picture] = {}
    async with aclosing(drawn_pieces(running, wanted)) as pieces:
        async for piece in pieces:
            match piece:
                case Drawing():
                    done, steps = piece.num_steps_done, piece.num_steps
                    now = int(time.time())
                    yield _event(OpenAIImageEvent(type=f"{operation}.progress", created_at=now, step=done, steps=steps))
                case Drawn():
                    pictures[piece.index] = Picture(piece, wanted.seeds[piece.index])
    for picture in complete(pictures, len(wanted.seeds)):
        yield _event(_completed(picture, wanted, operation, _usage(running.used)))


def _completed(picture: Picture, wanted: PictureRequest, operation: Operation, usage: ImageUsage) -> OpenAIImageEvent:
    return OpenAIImageEvent(
        type=f"{operation}.completed",
        created_at=int(time.time()),
        b64_json=_base64(picture),
        seed=picture.seed,
        finish_reason=picture.finish_reason,
        size="auto" if wanted.width is None else f"{wanted.width}x{wanted.height}",
        quality="auto",
        background="opaque",
        output_format=wanted.format,
        usage=usage,
    )


def _event(event: OpenAIImageEvent) -> bytes:
    return b"event: " + event.type.encode() + b"\ndata: " + _encode(event) + b"\n\n"


def _base64(picture: Picture) -> str:
    return base64.b64encode(picture.drawn.data).decode()


def _usage(used: Used) -> ImageUsage:
    num_tokens = used.num_prompt_tokens
    return ImageUsage(num_tokens, InputTokensDetails(num_tokens), num_tokens)
