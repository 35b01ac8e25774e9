"""Image files in forms: that they are there and what their first bytes announce. Nothing here decodes one."""

from aiohttp import web

from appliance.api.data.forms import Form, read_form, required_file
from appliance.api.routing import services
from appliance.errors import Code, HearthError
from appliance.services.image_editing import ImageEditor
from models.image_formats import IMAGE_FORMATS, image_format

EDITOR = web.AppKey("image_editor", ImageEditor)


async def read_image_form(request: web.Request, *names: str) -> Form:
    """`names`: of the parts that are image files, each within the limit of one."""
    config = services(request).config
    return await read_form(request, names, config.images.image_bytes_max, config.server.upload_idle_timeout_s)


def required_image(form: Form, name: str) -> bytes:
    return checked_image(required_file(form, name), name)


def checked_image(data: bytes, name: str) -> bytes:
    if image_format(data) is None:
        raise HearthError(Code.INVALID, f"{name}: is in none of the formats {', '.join(IMAGE_FORMATS)}", name)
    return data
