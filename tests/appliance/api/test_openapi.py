"""The document is derived, so it must agree with the table."""

import json
from typing import Any

import msgspec

from appliance.api.app import ROUTES
from appliance.api.openapi import describe
from appliance.api.routing import Permission


def document() -> Any:
    return json.loads(msgspec.json.encode(describe(ROUTES)))


def test_every_route_is_there_with_its_permission() -> None:
    paths = document()["paths"]
    assert sum(len(operations) for operations in paths.values()) == len(ROUTES)
    for route in ROUTES:
        operation = paths[route.path.replace(":.+}", "}")][route.method.lower()]
        assert operation["x-hearth-permission"] == route.permission
        assert (operation["security"] == []) is (route.permission in (Permission.PUBLIC, Permission.SIGNED_URL))


def test_path_parameters_are_declared() -> None:
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                assert f"{{{parameter['name']}}}" in path
            assert path.count("{") == len(operation["parameters"])


def test_bodies_are_the_structs_that_handlers_decode_and_every_reference_resolves() -> None:
    found = document()
    chat = found["paths"]["/inference/v1/chat/completions"]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ChatBody"}
    assert {"model", "messages"} <= set(found["components"]["schemas"]["ChatBody"]["required"])
    for reference in _references(found):
        assert reference.removeprefix("#/components/schemas/") in found["components"]["schemas"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [reference for inner in value.values() for reference in _references(inner)]
    if isinstance(value, list):
        return [reference for inner in value for reference in _references(inner)]
    return []
