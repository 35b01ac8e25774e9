import pytest

from appliance.api.control.fields import Kind, find_field, read_field
from appliance.errors import HearthError
from tests.appliance.api.control.sample_answers import BOATS, Boat


@pytest.mark.parametrize(
    ("text", "wire_name", "kind", "value"),
    [
        ("name", "name", Kind.TEXT, "accounts/acme/boats/ada"),
        ("display_name", "displayName", Kind.TEXT, "Ada the First"),
        ("displayName", "displayName", Kind.TEXT, "Ada the First"),
        ("mastCount", "mastCount", Kind.NUMBER, 1),
        ("isPublic", "isPublic", Kind.FLAG, False),
        ("tags", "tags", Kind.LIST, ["red", "old"]),
        ("annotations", "annotations", Kind.MAP, {"team": "shop"}),
        ("annotations.team", "annotations.team", Kind.TEXT, "shop"),
        ("annotations.none_such", "annotations.none_such", Kind.TEXT, None),
        ("status.message", "status.message", Kind.TEXT, ""),
        ("createTime", "createTime", Kind.TEXT, "2026-01-01T10:00:00Z"),
    ],
)
def test_a_field_is_found_by_its_path_in_either_spelling(text: str, wire_name: str, kind: Kind, value: object) -> None:
    field = find_field(Boat, text, "filter")
    assert (field.wire_name, field.kind) == (wire_name, kind)
    assert read_field(BOATS[0], field) == value


@pytest.mark.parametrize("text", ["", "sails", "status.tone", "name.first", "tags.0", "annotations.", "status..code"])
def test_a_path_that_leads_nowhere_is_refused_by_the_parameters_name(text: str) -> None:
    with pytest.raises(HearthError, match=r"^orderBy: ") as refused:
        find_field(Boat, text, "orderBy")
    assert refused.value.param == "orderBy"
