"""/openapi.json, derived from the route table and the Structs that handlers decode; nothing is written twice."""

import inspect
import re
from typing import Any

import msgspec
from aiohttp import web

from appliance.api.auth import WITHOUT_KEY
from appliance.api.routing import Route

ROUTE_TABLE = web.AppKey("route_table", list[Route])

_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_SCHEMA_REFERENCE = "#/components/schemas/{name}"


def describe(routes: list[Route]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of these routes, in their canonical paths."""
    bodies = [route.body for route in routes if route.body is not None]
    schemas, components = msgspec.json.schema_components(bodies, ref_template=_SCHEMA_REFERENCE)
    schema_of = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        schema = None if route.body is None else schema_of[route.body]
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schema)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hearth", "version": "v1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schema: dict[str, Any] | None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(route.path)
        ],
        "security": [] if route.permission in WITHOUT_KEY else [{"key": []}],
        "x-hearth-permission": route.permission,
        "responses": {"200": {"description": "Success"}, "default": {"description": "An error"}},
    }
    if schema is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation
