"""Images in a request: `data:` URIs and, where the operator allows it, URLs, become files that a worker may be sent.

Everything that can be told without decoding an image is checked here, cheapest first: how many, how large, whether it
is base64, which format its first bytes announce. Refusals name the part.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from appliance.config import ImageSettings
from appliance.errors import Code, HearthError
from appliance.services.image_fetch import fetch_image
from models.image_formats import IMAGE_FORMATS, image_format


class ImageUrl(msgspec.Struct):
    url: str
    detail: Literal["auto", "low", "high"] | None = None
    """A hint without effect: the model's own rules say how large an image is shown to it."""


class ImageSource(NamedTuple):
    param: str
    url: str


async def read_images(sources: Sequence[ImageSource], settings: ImageSettings) -> dict[str, bytes]:
    """The files behind them, by the name of their part; raises `invalid` or `too_large` naming the one at fault."""
    if len(sources) > settings.images_max:
        raise _invalid(sources[settings.images_max].param, f"more than {settings.images_max} images")
    _check_total(sources, [len(source.url) for source in sources], settings)
    files = [_decode(source, settings) if is_data_uri(source.url) else None for source in sources]
    remaining = iter(await _fetch_all([source for source in sources if not is_data_uri(source.url)], settings))
    complete = [next(remaining) if file is None else file for file in files]
    _check_total(
        sources, [max(len(source.url), len(file)) for source, file in zip(sources, complete, strict=True)], settings
    )
    for source, file in zip(sources, complete, strict=True):
        if image_format(file) is None:
            raise _invalid(source.param, f"is in none of the formats {', '.join(IMAGE_FORMATS)}")
    return {source.param: file for source, file in zip(sources, complete, strict=True)}


async def _fetch_all(sources: Sequence[ImageSource], settings: ImageSettings) -> list[bytes]:
    """The first failure ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch_image(source.url, settings, source.param)) for source in sources]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


def is_data_uri(url: str) -> bool:
    return url[:5].lower() == "data:"


def _check_total(sources: Sequence[ImageSource], sizes: Sequence[int], settings: ImageSettings) -> None:
    total = 0
    for source, size in zip(sources, sizes, strict=True):
        total += size
        if total > settings.image_request_bytes_max:
            limit = settings.image_request_bytes_max
            raise _too_large(source.param, f"with this image those of the request exceed {limit} bytes")


def _decode(source: ImageSource, settings: ImageSettings) -> bytes:
    header, comma, text = source.url.partition(",")
    media_type, *parameters = header[5:].lower().split(";")
    if not comma or not media_type.startswith("image/") or parameters[-1:] != ["base64"]:
        raise _invalid(source.param, "must begin with data:image/…;base64, or be the URL of an image")
    if len(text) > -(-settings.image_bytes_max // 3) * 4:
        raise _too_large(source.param, f"the image is larger than {settings.image_bytes_max} bytes")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(source.param, "is not valid base64") from error
    if len(data) > settings.image_bytes_max:
        raise _too_large(source.param, f"the image is larger than {settings.image_bytes_max} bytes")
    return data


def _invalid(param: str, message: str) -> HearthError:
    return HearthError(Code.INVALID, f"{param}: {message}", param)


def _too_large(param: str, message: str) -> HearthError:
    return HearthError(Code.TOO_LARGE, f"{param}: {message}", param)
