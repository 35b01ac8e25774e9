"""/openapi.json, derived from the route table and the Structs that handlers decode and write; nothing is said twice.

The parts of an operation are put together in `description/`.
"""

from collections import Counter
from functools import cached_property
from importlib import import_module
from typing import Any

import msgspec
from aiohttp import web

from appliance.api.description.errors import response_components, schema_components
from appliance.api.description.operations import Operations
from appliance.api.description.parameters import shown_path
from appliance.api.description.schemas import Schemas
from appliance.api.routing import Route

TITLE = "Hearth"
ABOUT = """
The Fireworks AI platform on one box: models, deployments and their replicas, and inference in the forms of OpenAI,
Fireworks and Anthropic.

Paths under `/inference/v1` answer under `/v1` as well, and those under `/v1/accounts` under `/inference/v1/accounts`,
so that a client's base URL may end in nothing, `/inference` or `/inference/v1`. Where a path takes an id it takes the
full name too, percent-encoded. Every `GET` answers to `HEAD`.

64-bit numbers are written as strings, and read as either; durations are `90s`, `10m` or `1h30m`; times are RFC 3339.
Fields that the API does not have are ignored, and so are those of an answer that a client sends back.
"""


class Document:
    """Of one application; put together when somebody asks for it first."""

    def __init__(self, routes: list[Route], server_url: str) -> None:
        self._routes = routes
        self._server_url = server_url

    @cached_property
    def encoded(self) -> bytes:
        return msgspec.json.encode(describe(self._routes, self._server_url))


DOCUMENT = web.AppKey("document", Document)


def describe(routes: list[Route], server_url: str = "/") -> dict[str, Any]:
    """An OpenAPI 3.1 document of these routes, in their canonical paths."""
    schemas = Schemas(routes)
    operations = Operations(schemas, routes, _operation_ids(routes))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(shown_path(route.path), {})[route.method.lower()] = operations.describe(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": "v1", "description": ABOUT.strip()},
        "servers": [{"url": server_url, "description": "This machine"}],
        "tags": _tags(routes),
        "paths": paths,
        "components": {
            "schemas": schemas.components | schema_components(),
            "responses": response_components(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, `fw_…`."},
                "keyHeader": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _operation_ids(routes: list[Route]) -> dict[tuple[str, str], str]:
    """By method and path. A handler of several routes is numbered from the second one on."""
    ids, seen = {}, Counter[str]()
    for route in routes:
        name = route.handler.__name__
        seen[name] += 1
        ids[route.method, route.path] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return ids


def _tags(routes: list[Route]) -> list[dict[str, str]]:
    modules = dict.fromkeys(route.handler.__module__ for route in routes)
    return [
        {"name": Operations.tag(module), "description": (import_module(module).__doc__ or "").partition("\n")[0]}
        for module in modules
    ]
