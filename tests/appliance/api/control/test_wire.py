import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from appliance.api.control.deployment_body import DeploymentBody
from appliance.api.control.model_body import BaseModelDetailsBody, ModelBody
from appliance.api.control.models import CreateModelBody
from appliance.api.control.wire import (
    NotServed,
    Wire,
    decode_query,
    is_neutral,
    parse_enum,
    refuse_not_served,
    render_time,
)
from appliance.domain import Precision
from appliance.errors import Code, HearthError

NOT_SERVED = [field.encode_name for field in msgspec.structs.fields(DeploymentBody) if field.type == NotServed]


class Inner(Wire, frozen=True, kw_only=True):
    later: NotServed = None


class Outer(Wire, frozen=True, kw_only=True):
    inner: Inner | None = None
    some_day: NotServed = None


@pytest.mark.parametrize(
    "value", [None, "", 0, False, [], {}, "DIRECT_ROUTE_TYPE_UNSPECIFIED", {"longPrompt": False, "x": {"y": ""}}]
)
def test_what_asks_for_nothing_is_neutral(value: object) -> None:
    assert is_neutral(value)


@pytest.mark.parametrize("value", ["x", 1, True, [0], {"x": 1}, "INTERNET"])
def test_what_asks_for_something_is_not_neutral(value: object) -> None:
    assert not is_neutral(value)


def test_a_field_that_is_not_served_is_named_with_its_path() -> None:
    refuse_not_served(Outer(inner=Inner(later=False), some_day=""))
    with pytest.raises(HearthError, match=r"^inner\.later: this version") as caught:
        refuse_not_served(Outer(inner=Inner(later=7)))
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "inner.later")
    with pytest.raises(HearthError, match="someDay") as caught:
        refuse_not_served(Outer(some_day={"on": True}))
    assert caught.value.param == "someDay"


@pytest.mark.parametrize("name", NOT_SERVED)
def test_every_marked_field_of_a_deployment_is_refused(name: str) -> None:
    body = msgspec.convert({"baseModel": "m", name: {"some": "thing"}}, DeploymentBody)
    with pytest.raises(HearthError) as caught:
        refuse_not_served(body)
    assert caught.value.param == name


def test_nested_bodies_of_a_model_are_looked_into() -> None:
    body = CreateModelBody(model_id="m", model=ModelBody(base_model_details=BaseModelDetailsBody(tunable=True)))
    with pytest.raises(HearthError) as caught:
        refuse_not_served(body)
    assert caught.value.param == "model.baseModelDetails.tunable"


def test_a_member_that_is_not_served_is_refused_naming_those_that_are() -> None:
    assert parse_enum(Precision, "BF16", "precision") is Precision.BF16
    assert parse_enum(Precision, "PRECISION_UNSPECIFIED", "precision") is None
    assert parse_enum(Precision, None, "precision") is None
    with pytest.raises(HearthError, match=r"precision: 'FP4' is not served; this version serves BF16, FP16, FP32, FP8"):
        parse_enum(Precision, "FP4", "precision")


def test_times_are_rfc_3339_with_microseconds() -> None:
    assert render_time(1767321845.678901) == "2026-01-02T02:44:05.678901Z"
    assert render_time(0.0) == "1970-01-01T00:00:00.000000Z"
    assert render_time(None) is None


class Query(Wire, frozen=True, kw_only=True):
    some_flag: bool = False
    how_many: int | None = None
    later: NotServed = None


def test_query_parameters_are_read_from_text() -> None:
    request = make_mocked_request("GET", "/x?someFlag=true&howMany=3&unknown=1")
    assert decode_query(request, Query) == Query(some_flag=True, how_many=3)
    assert decode_query(make_mocked_request("GET", "/x?howMany="), Query) == Query()


@pytest.mark.parametrize(
    ("query", "named"),
    [("someFlag=perhaps", "someFlag"), ("howMany=x", "howMany"), ("later=1", "later")],
)
def test_a_query_parameter_that_cannot_be_is_named(query: str, named: str) -> None:
    with pytest.raises(HearthError, match=rf"^{named}:") as caught:
        decode_query(make_mocked_request("GET", f"/x?{query}"), Query)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, named)
