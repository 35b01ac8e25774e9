import re
from typing import Annotated, Any

import msgspec
import pytest

from appliance.api.control.durations import Duration
from appliance.api.control.wire import Answer, Timestamp, Wire
from appliance.api.description.parameters import has_read_mask, parameters_of, shown_path
from appliance.api.description.schemas import Schemas
from appliance.api.routing import Permission, Route


class Thing(Answer, frozen=True, kw_only=True):
    name: str
    mast_count: int | None = None


class Query(Wire, frozen=True, kw_only=True):
    since: Timestamp
    lasting: Annotated[Duration | None, msgspec.Meta(description="How long.")] = None
    is_deep: bool = False


async def handle(request: object) -> Any:
    """Do something."""


def parameters(route: Route) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in parameters_of(route, Schemas([route]))}


def route(method: str, path: str, **declared: Any) -> Route:
    return Route(method, path, handle, declared.pop("permission", Permission.READ), answer=Thing, **declared)


def test_lists_take_what_all_lists_take() -> None:
    found = parameters(route("GET", "/things", plural="things"))
    assert set(found) == {"pageSize", "pageToken", "filter", "orderBy", "readMask"}
    assert "`mastCount`" in found["filter"]["description"]


def test_a_single_resource_may_be_masked_and_a_change_too() -> None:
    assert set(parameters(route("GET", "/things/{thing_id}"))) == {"thing_id", "readMask"}
    assert set(parameters(route("PATCH", "/things/{thing_id}"))) == {"thing_id", "updateMask"}
    assert set(parameters(route("PATCH", "/things/{thing_id}:scale"))) == {"thing_id"}
    assert not has_read_mask(route("POST", "/things"))


def test_a_websocket_is_opened_by_its_header() -> None:
    assert parameters(route("GET", "/live", is_websocket=True))["Upgrade"]["schema"] == {"const": "websocket"}


def test_the_query_is_the_struct_that_the_handler_decodes() -> None:
    found = parameters(route("DELETE", "/things", query=Query))
    assert found["since"]["required"]
    assert {"type": "string", "format": "date-time"} in found["since"]["schema"]["anyOf"]
    assert {"const": ""} in found["since"]["schema"]["anyOf"], "as if it were left out"
    assert found["lasting"]["description"] == "How long."
    assert found["isDeep"]["schema"] == {"type": "boolean"}


@pytest.mark.parametrize(
    ("path", "shown"), [("/models/{model:.+}", "/models/{model}"), ("/a/{b_id}:verb", "/a/{b_id}:verb"), ("/a", "/a")]
)
def test_the_routers_own_patterns_are_not_shown(path: str, shown: str) -> None:
    assert shown_path(path) == shown


def test_ids_say_their_rules() -> None:
    pattern = parameters(route("GET", "/things/{thing_id}"))["thing_id"]["schema"]["pattern"]
    assert re.search(pattern, "a-thing")
    assert re.search(pattern, "accounts/acme/things/a-thing")
    assert not re.search(pattern, "A/thing")
    assert not re.search(pattern, "x" * 64)
    assert "cold" in "".join(parameters(route("POST", "/chat", permission=Permission.INFER)))
