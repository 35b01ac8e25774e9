"""The document is derived, so it must agree with the table."""

import json
import re
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from appliance.api.app import ROUTES
from appliance.api.description.parameters import shown_path
from appliance.api.openapi import Document, describe
from appliance.api.routing import Permission, Route

DOCUMENT: Any = json.loads(Document(ROUTES, "https://gpu.example.com").encoded)


def operation_of(route: Route) -> Any:
    return DOCUMENT["paths"][shown_path(route.path)][route.method.lower()]


def test_every_route_is_there_with_its_permission() -> None:
    assert sum(len(operations) for operations in DOCUMENT["paths"].values()) == len(ROUTES)
    for route in ROUTES:
        operation = operation_of(route)
        assert operation["x-hearth-permission"] == route.permission
        assert (operation["security"] == []) is (route.permission in (Permission.PUBLIC, Permission.SIGNED_URL))


def test_the_server_is_where_clients_reach_it() -> None:
    assert DOCUMENT["servers"][0]["url"] == "https://gpu.example.com"
    assert describe([])["servers"][0]["url"] == "/"


def test_operations_have_names_of_their_own_and_a_sentence_for_people() -> None:
    operations = [operation_of(route) for route in ROUTES]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert not [operation["operationId"] for operation in operations if not operation["summary"].endswith(".")]
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert all(set(operation["tags"]) <= tags for operation in operations)


def test_path_parameters_are_declared() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert named == re.findall(r"\{(\w+)\}", path)


def test_no_parameter_is_declared_twice() -> None:
    for route in ROUTES:
        places = [(each["in"], each["name"]) for each in operation_of(route)["parameters"]]
        assert len(set(places)) == len(places), route


def test_bodies_are_the_structs_that_handlers_decode() -> None:
    chat = DOCUMENT["paths"]["/inference/v1/chat/completions"]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ChatBody"}
    assert {"model", "messages"} <= set(DOCUMENT["components"]["schemas"]["ChatBody"]["required"])


def test_every_reference_resolves() -> None:
    for reference in _references(DOCUMENT):
        place = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_one(name: str) -> None:
    jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [reference for inner in value.values() for reference in _references(inner)]
    if isinstance(value, list):
        return [reference for inner in value for reference in _references(inner)]
    return []


def test_the_document_is_put_together_once() -> None:
    document = Document(ROUTES, "/")
    assert document.encoded is document.encoded
    assert msgspec.json.decode(document.encoded)["openapi"] == "3.1.0"
