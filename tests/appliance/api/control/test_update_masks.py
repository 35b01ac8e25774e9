import pytest
from aiohttp.test_utils import make_mocked_request

from appliance.api.control.update_masks import masked_update
from appliance.api.control.wire import Wire
from appliance.errors import Code, HearthError


class Member(Wire, frozen=True, kw_only=True):
    inner: str | None = None


class Body(Wire, frozen=True, kw_only=True):
    display_name: str | None = None
    email: str | None = None
    is_public: bool | None = None
    member: Member | None = None


BODY = Body(display_name="new", is_public=True, member=Member(inner="x"))


def masked(mask: str) -> Body:
    return masked_update(make_mocked_request("PATCH", f"/?updateMask={mask}"), BODY)


@pytest.mark.parametrize("mask", ["", "*", "display_name,*"])
def test_without_a_mask_all_that_is_present_counts(mask: str) -> None:
    assert masked(mask) == BODY


@pytest.mark.parametrize("mask", ["display_name", "displayName", " displayName ,"])
def test_a_mask_leaves_out_what_it_does_not_name_in_either_spelling(mask: str) -> None:
    assert masked(mask) == Body(display_name="new")


def test_a_text_that_is_named_and_not_given_becomes_empty() -> None:
    assert masked("email") == Body(email="")


def test_of_a_member_all_is_meant() -> None:
    assert masked("member.inner,isPublic") == Body(is_public=True, member=Member(inner="x"))


def test_a_field_that_there_is_not_is_named() -> None:
    with pytest.raises(HearthError, match="'sails'") as caught:
        masked("email,sails")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "updateMask")
