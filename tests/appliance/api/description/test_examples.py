from typing import Any

import msgspec
import pytest

from appliance.api.app import ROUTES
from appliance.api.codec import decode_json
from appliance.api.control.wire import Wire, refuse_not_served
from appliance.api.description.examples import EXAMPLES
from appliance.api.routing import Content, Route

WITH_BODY = [route for route in ROUTES if route.body is not None and not isinstance(route.body, Content)]


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: f"{route.method} {route.path}")
def test_every_body_has_an_example_that_its_handler_takes(route: Route) -> None:
    example: dict[str, Any] = EXAMPLES[route.handler.__name__]
    assert route.body is not None
    assert not isinstance(route.body, Content)
    body = decode_json(msgspec.json.encode(example), route.body)
    if isinstance(body, Wire):
        refuse_not_served(body)
    assert set(example) <= set(route.body.__struct_encode_fields__), "a member that is ignored says nothing"


def test_there_is_no_example_of_nothing() -> None:
    assert set(EXAMPLES) == {route.handler.__name__ for route in WITH_BODY}
