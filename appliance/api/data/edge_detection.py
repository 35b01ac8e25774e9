"""POST …/canny_edge_detection: a picture in, its edges out, as the ControlNet for edges wants them."""

from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.data.forms import decode_fields, ignored_form_fields
from appliance.api.data.generation import IGNORED_FIELDS_HEADER
from appliance.api.data.image_fields import path_model
from appliance.api.data.image_files import EDITOR, read_image_form, required_image
from appliance.api.data.image_generation import PATH
from appliance.api.routing import Content, Permission, Route, principal, services
from appliance.services.images import drawing_info
from models.image_edits import FindEdges

IMAGE = "image"
LOW, HIGH = 100.0, 200.0

Threshold = Annotated[float, msgspec.Meta(ge=0, le=10_000)]


class EdgeFields(msgspec.Struct, kw_only=True):
    min_val: Threshold | None = None
    max_val: Threshold | None = None
    """How much the picture changes at an edge, and at one that others have to touch."""


async def detect_edges(request: web.Request) -> web.StreamResponse:
    """Find the edges of an image by Canny's method.

    White on black, of the same size. The model in the path has no part in it but that it makes pictures.
    """
    form = await read_image_form(request, IMAGE)
    fields = decode_fields(form, EdgeFields)
    image = required_image(form, IMAGE)
    target = await services(request).deployments.resolve(principal(request), path_model(request))
    drawing_info(target, "model_id")
    low = LOW if fields.min_val is None else fields.min_val
    high = HIGH if fields.max_val is None else fields.max_val
    edges = await request.app[EDITOR].edit(FindEdges(image=image, low=low, high=high), IMAGE)
    ignored = ignored_form_fields(form, EdgeFields)
    headers = {IGNORED_FIELDS_HEADER: ignored} if ignored else {}
    return web.Response(body=edges, content_type="image/png", headers=headers)


ROUTES = [
    Route(
        "POST",
        f"{PATH}/canny_edge_detection",
        detect_edges,
        Permission.INFER,
        Content("multipart/form-data", "The image, and thresholds.", parts=(IMAGE,), fields=EdgeFields),
        answer=Content("image/png", "The edges."),
    ),
]
