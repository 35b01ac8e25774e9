from typing import Any

from appliance.api.control.wire import Answer, NotServed, Wire
from appliance.api.description.schemas import Schemas
from appliance.api.routing import Content, Permission, Route


class Body(Wire, frozen=True, kw_only=True):
    display_name: str
    later: NotServed = None


class Query(Wire, frozen=True, kw_only=True):
    how_many: int = 1


class Thing(Answer, frozen=True, kw_only=True):
    name: str


async def handle(request: object) -> Any:
    """Do something."""


SCHEMAS = Schemas(
    [
        Route("POST", "/things", handle, Permission.WRITE, body=Body, answer=Thing, query=Query),
        Route("GET", "/picture", handle, Permission.READ, answer=Content("image/png", "A picture.")),
    ]
)


def test_bodies_require_what_handlers_require() -> None:
    assert SCHEMAS.components["Body"]["required"] == ["displayName"]
    assert not SCHEMAS.takes_nothing(Body)
    assert SCHEMAS.takes_nothing(Query)


def test_a_mask_may_leave_any_field_of_an_answer_out() -> None:
    assert "required" not in SCHEMAS.components["Thing"]


def test_a_query_is_shown_as_parameters_only() -> None:
    assert "Query" not in SCHEMAS.components
    assert set(SCHEMAS.properties(Query)) == {"howMany"}


def test_what_is_not_served_may_be_empty() -> None:
    schema = SCHEMAS.properties(Body)["later"]
    assert None in schema["anyOf"][0]["enum"]
