import pytest

from appliance.api.control.ordering import ORDER_FIELDS_MAX, parse_order
from appliance.errors import HearthError
from tests.appliance.api.control.sample_answers import BOATS, Boat, letters


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name", "abe"),
        ("name desc", "eba"),
        ("mastCount", "eab"),
        ("mast_count desc", "bae"),
        ("createTime desc", "bae"),
        ("state, name desc", "bea"),
        ("state desc,name", "aeb"),
        ("is_public asc", "aeb"),
        ("status.message desc", "bae"),
        ("annotations.team desc", "aeb"),
    ],
)
def test_resources_stand_in_the_order_of_the_fields_and_then_of_their_names(text: str, found: str) -> None:
    order = parse_order(text, Boat, "name")
    assert letters(sorted(BOATS, key=lambda boat: order.sort_key(order.place(boat)))) == found


@pytest.mark.parametrize(
    "text", ["", "sails", "name upwards", "name desc desc", "tags", "annotations", "status", "a,,b"]
)
def test_what_has_no_order_is_refused(text: str) -> None:
    with pytest.raises(HearthError, match=r"^orderBy: "):
        parse_order(text, Boat, "name")


def test_an_order_has_few_fields() -> None:
    with pytest.raises(HearthError, match="at most 8 fields"):
        parse_order(",".join(["name"] * (ORDER_FIELDS_MAX + 1)), Boat, "name")
