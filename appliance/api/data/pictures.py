"""Pictures as clients of Fireworks' routes read them: an image file, JSON, or events that tell how far they are.

Knows no field of a request (`image_generation.py`, `image_workflows.py`).
"""

import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from appliance.api.codec import json_response, stream_events
from appliance.api.data.accepting import Form
from appliance.api.data.calls import Running, run_call
from appliance.api.routing import Content, services
from appliance.errors import Code, HearthError
from appliance.services.images import PictureRequest, draw_by, drawing_demand, in_clients_words
from runtime.tasks.images import Drawing, Drawn

SUCCESS, FILTERED = "SUCCESS", "CONTENT_FILTERED"
IMAGE_FILES = (
    Content(Form.PNG, "The picture; its headers `Seed` and `Finish-Reason` tell of it."),
    Content(Form.JPEG, "Likewise."),
)
_encode = msgspec.json.Encoder().encode


class ImageArtifact(msgspec.Struct, rename="camel"):
    base64: str
    finish_reason: str
    """SUCCESS, or CONTENT_FILTERED of one that the safety check kept back, which is black."""
    seed: int


class ImageEvent(msgspec.Struct, omit_defaults=True):
    """How far it is; the last one holds the pictures."""

    step: int
    steps: int
    images: list[ImageArtifact] = []


class Picture(NamedTuple):
    drawn: Drawn
    seed: int

    @property
    def finish_reason(self) -> str:
        return FILTERED if self.drawn.is_filtered else SUCCESS

    def artifact(self) -> ImageArtifact:
        return ImageArtifact(base64.b64encode(self.drawn.data).decode(), self.finish_reason, self.seed)


async def begin_drawing(request: web.Request, model: str, wanted: PictureRequest) -> Running:
    """What is wrong with the request raises here; everything else while its pieces are read."""
    make_task = draw_by(wanted, services(request).config)
    return await run_call(request, model=model, make_task=make_task, demand=drawing_demand(wanted))


async def respond(
    request: web.Request,
    running: Running,
    wanted: PictureRequest,
    form: Form,
    headers: dict[str, str],
    to_json: Callable[[list[Picture]], Any],
) -> web.StreamResponse:
    if form is Form.EVENTS:
        return await stream_events(request, _events(running, wanted), headers | running.first_headers())
    pictures = await collect(running, wanted)
    headers = headers | running.headers()
    if form is Form.JSON:
        return json_response(to_json(pictures), headers=headers)
    (picture,) = pictures
    told = {"Finish-Reason": picture.finish_reason, "Seed": str(picture.seed)}
    return web.Response(body=picture.drawn.data, content_type=form, headers=headers | told)


async def drawn_pieces(running: Running, wanted: PictureRequest) -> AsyncGenerator[Drawing | Drawn, None]:
    """As they come; a worker's refusal is about the fields of this route."""
    try:
        async with aclosing(running.pieces()) as pieces:
            async for piece in pieces:
                assert isinstance(piece, Drawing | Drawn)
                yield piece
    except HearthError as error:
        raise in_clients_words(error, wanted.names) from error


async def collect(running: Running, wanted: PictureRequest) -> list[Picture]:
    """In the order of their seeds; raises when one is missing."""
    pictures: dict[int, Picture] = {}
    async with aclosing(drawn_pieces(running, wanted)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Drawn):
                pictures[piece.index] = Picture(piece, wanted.seeds[piece.index])
    return complete(pictures, len(wanted.seeds))


def complete(pictures: dict[int, Picture], num_images: int) -> list[Picture]:
    if len(pictures) != num_images:
        raise HearthError(Code.INTERNAL, "the answer ended before it was complete")
    return [pictures[index] for index in range(num_images)]


async def _events(running: Running, wanted: PictureRequest) -> AsyncGenerator[bytes, None]:
    pictures: dict[int, Picture] = {}
    step = steps = 0
    async with aclosing(drawn_pieces(running, wanted)) as pieces:
        async for piece in pieces:
            match piece:
                case Drawing():
                    step, steps = piece.num_steps_done, piece.num_steps
                    yield _event(ImageEvent(step, steps))
                case Drawn():
                    pictures[piece.index] = Picture(piece, wanted.seeds[piece.index])
    artifacts = [picture.artifact() for picture in complete(pictures, len(wanted.seeds))]
    yield _event(ImageEvent(steps, steps, artifacts))


def _event(event: ImageEvent) -> bytes:
    return b"data: " + _encode(event) + b"\n\n"
