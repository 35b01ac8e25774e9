"""Where to go on from a creation: the routes of what was created, found by its name in the answer."""

import re
from typing import Any

import msgspec

from appliance.api.routing import Route

_NAMING = ("name", "id", "keyId")
"""Members of an answer that tell which one it is; a full name stands in a path as well as an id."""
_ONE_MORE = re.compile(r"/\{(\w+)\}[^{]*")


def links_of(creation: Route, routes: list[Route], ids: dict[tuple[str, str], str]) -> dict[str, Any]:
    """By operation id. Nothing where the route creates nothing that has a name."""
    naming = _naming_field(creation)
    if naming is None:
        return {}
    links = {}
    for route in routes:
        below = route.path.removeprefix(creation.path)
        if below != route.path and (parameter := _ONE_MORE.fullmatch(below)):
            operation_id = ids[route.method, route.path]
            links[operation_id] = {
                "operationId": operation_id,
                "parameters": {parameter[1]: f"$response.body#/{naming}", **_parents(creation.path)},
            }
    return links


def _naming_field(creation: Route) -> str | None:
    if creation.method != "POST" or ":" in creation.path or not isinstance(creation.answer, type):
        return None
    known = {field.encode_name for field in msgspec.structs.fields(creation.answer)}
    return next((name for name in _NAMING if name in known), None)


def _parents(path: str) -> dict[str, str]:
    return {name: f"$request.path.{name}" for name in re.findall(r"\{(\w+)\}", path)}
