import msgspec

from appliance.sdk.originals import keep, original_of
from appliance.sdk.resources import Resource

SENT = {
    "things": [{"name": "a", "size": "5", "isNew": True}, {"name": "b"}],
    "nextPageToken": "",
}


class Thing(Resource, frozen=True, kw_only=True):
    name: str
    size: str = "0"


class Page(Resource, frozen=True, kw_only=True):
    things: list[Thing]
    next_page_token: str = ""


def page() -> Page:
    decoded = msgspec.convert(SENT, type=Page)
    keep(decoded, SENT)
    return decoded


def test_resources_in_a_page_are_what_was_sent_with_unknown_fields_and_without_defaults() -> None:
    assert original_of(page()) == SENT
    assert original_of(page().things) == SENT["things"]
    assert original_of({"newest": page().things[0]}) == {"newest": {"name": "a", "size": "5", "isNew": True}}


def test_what_was_kept_does_not_make_two_things_different() -> None:
    assert page().things[1] == Thing(name="b")


def test_a_resource_that_was_not_sent_so_is_itself() -> None:
    changed = msgspec.structs.replace(page().things[0], name="c")
    assert original_of(changed) is changed
    assert original_of("text") == "text"
