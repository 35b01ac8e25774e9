"""What each route must declare, for nothing of the document may be guessed."""

import ast
import inspect
from types import ModuleType
from typing import Any

import msgspec
import pytest

from appliance.api.app import ROUTES
from appliance.api.openapi import describe
from appliance.api.routing import Content, Permission, Route

MODULES = {route.handler.__module__: inspect.getmodule(route.handler) for route in ROUTES}
MAY_READ_THE_QUERY = {
    "appliance.api.control.audit_logs": "its pages are chosen in SQL, by the parameters that all lists have",
    "appliance.api.control.usage": "groupBy may be given more than once; it is declared in UsageQuery",
    "appliance.api.data.realtime": "timestamp_granularities may be given more than once; it is declared in LiveQuery",
}


def responses_of(route: Route) -> dict[str, Any]:
    (operations,) = describe([route])["paths"].values()
    responses: dict[str, Any] = operations[route.method.lower()]["responses"]
    return responses


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_says_what_it_answers(route: Route) -> None:
    assert route.answer is not None
    assert responses_of(route)["200"]["content"]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_every_query_that_is_decoded_is_declared(module: ModuleType) -> None:
    decoded = {
        ast.unparse(call.args[1])
        for call in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "decode_query"
    }
    declared = {route.query.__name__ for route in ROUTES if route.handler.__module__ == module.__name__ and route.query}
    assert decoded <= declared | {"UpdateQuery"}


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_query_is_read_by_decoding_it(module: ModuleType) -> None:
    if module.__name__ not in MAY_READ_THE_QUERY:
        assert "request.query" not in inspect.getsource(module)


class Answer(msgspec.Struct):
    name: str


class Fields(msgspec.Struct):
    prompt: str
    mask: bytes | None = None


async def handle_things(request: object) -> Any:
    """Do something.

    At length.
    """


def test_lists_hold_a_page_under_their_plural() -> None:
    route = Route("GET", "/v1/accounts/{account_id}/things", handle_things, Permission.READ, None, Answer, "things")
    schema = responses_of(route)["200"]["content"]["application/json"]["schema"]
    assert schema["properties"]["things"] == {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}}
    assert schema["required"] == ["things", "nextPageToken", "totalSize"]


def test_what_is_not_json_is_described_as_what_it_is() -> None:
    route = Route("GET", "/things", handle_things, Permission.PUBLIC, answer=Content("text/csv", "Rows.", is_text=True))
    assert responses_of(route)["200"]["content"] == {"text/csv": {"schema": {"type": "string"}}}
    assert responses_of(route)["200"]["description"] == "Rows."


def test_an_array_holds_what_the_answer_says() -> None:
    route = Route("POST", "/things", handle_things, Permission.INFER, answer=Answer, is_array=True)
    schema = responses_of(route)["200"]["content"]["application/json"]["schema"]
    assert schema == {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}}


def test_other_answers_stand_beside_the_first() -> None:
    others = (Content("image/png", "A file."), Content("image/jpeg", "A file."))
    route = Route("POST", "/things", handle_things, Permission.INFER, answer=Answer, other_answers=others)
    assert set(responses_of(route)["200"]["content"]) == {"application/json", "image/png", "image/jpeg"}


def test_a_form_has_files_and_fields() -> None:
    body = Content("multipart/form-data", "A form.", parts=("image",), fields=Fields)
    route = Route("POST", "/things", handle_things, Permission.INFER, body, answer=Answer)
    (operations,) = describe([route])["paths"].values()
    form = operations["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    assert form["required"] == ["image", "prompt"]
    assert form["properties"]["image"] == form["properties"]["mask"] == file
    assert form["properties"]["prompt"] == {"type": "string"}


def test_a_stream_is_an_answer_too() -> None:
    route = Route("POST", "/things", handle_things, Permission.INFER, answer=Answer, event=Answer)
    assert set(responses_of(route)["200"]["content"]) == {"application/json", "text/event-stream"}


def test_the_docstring_is_summary_and_description() -> None:
    route = Route("GET", "/things", handle_things, Permission.PUBLIC, answer=Answer)
    (operation,) = describe([route])["paths"]["/things"].values()
    assert (operation["summary"], operation["description"]) == ("Do something.", "At length.")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/accounts/{account_id}", "GatewayError"),
        ("/inference/v1/messages", "AnthropicError"),
        ("/inference/v1/chat/completions", "OpenAIError"),
    ],
)
def test_refusals_have_the_form_of_their_paths_dialect(path: str, form: str) -> None:
    route = Route("POST", path, handle_things, Permission.INFER, answer=Answer)
    document = describe([route])
    statuses = set(responses_of(route))
    assert {"400", "401", "402", "403", "404", "429", "500", "503"} <= statuses
    reference = document["paths"][path]["post"]["responses"]["404"]["$ref"]
    shared = document["components"]["responses"][reference.rpartition("/")[2]]
    assert shared["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{form}"}


def test_what_needs_no_key_has_no_refusal_of_keys() -> None:
    assert not {"401", "429"} & set(responses_of(Route("GET", "/things", handle_things, Permission.PUBLIC)))
