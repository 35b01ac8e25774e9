"""An image that a client only names: fetched as `media_fetch.py` has it, whole and no larger than allowed."""

from appliance.config import ImageSettings
from appliance.errors import Code, HearthError
from appliance.services.media_fetch import Resolve, Rules, fetch, resolve_by_system


async def fetch_image(url: str, settings: ImageSettings, param: str, resolve: Resolve = resolve_by_system) -> bytes:
    """Raises `invalid` or `too_large` naming `param`."""
    rules = Rules(
        noun="an image",
        plural="images",
        media_types="image/*",
        origins=settings.image_origins,
        setting="image_origins",
        remedy="send the image as a data: URI",
        timeout_s=settings.image_fetch_timeout_s,
    )
    data = bytearray()

    async def take(chunk: bytes) -> None:
        data.extend(chunk)
        if len(data) > settings.image_bytes_max:
            message = f"{param}: the image is larger than {settings.image_bytes_max} bytes"
            raise HearthError(Code.TOO_LARGE, message, param)

    await fetch(url, rules, param, take, resolve)
    return bytes(data)
