import pytest

from appliance.api.control.masks import parse_mask
from appliance.errors import HearthError
from tests.appliance.api.control.sample_answers import BOATS, Boat


@pytest.mark.parametrize("text", ["", " ", "*", "name,*"])
def test_a_mask_of_everything_changes_nothing(text: str) -> None:
    assert parse_mask(text, Boat).apply(BOATS[0]) is BOATS[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("name", {"name": "accounts/acme/boats/bob"}),
        ("display_name, state", {"displayName": "bob", "state": "FAILED"}),
        ("status.message", {"status": {"message": "no room in the harbour"}}),
        ("status", {"status": {"code": "INTERNAL", "message": "no room in the harbour"}}),
        ("isPublic,tags", {"isPublic": True, "tags": []}),
        ("annotations.team", {}),
    ],
)
def test_a_mask_leaves_what_it_names_as_clients_spell_it(text: str, shown: object) -> None:
    assert parse_mask(text, Boat).apply(BOATS[1]) == shown


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(HearthError, match="readMask: 'sails' is none of name"):
        parse_mask("name,sails", Boat)
