from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.control.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, flag, refuse_query, take_page
from appliance.errors import HearthError

NAMES = [f"model-{number:03}" for number in range(230)]


def request(path: str = "/v1/accounts/acme/models", **query: object) -> web.Request:
    return make_mocked_request("GET", f"{path}?{urlencode(query)}")


def walk(names: list[str], page_size: int) -> list[list[str]]:
    pages, token = [], ""
    while True:
        page = take_page(request(pageSize=page_size, pageToken=token), names, sort_key=str)
        assert page.total_size == len(names)
        pages.append(page.items)
        token = page.next_page_token
        if not token:
            return pages


@given(st.sets(st.text(min_size=1, max_size=5), max_size=30), st.integers(1, 7))
def test_pages_hold_everything_once_and_in_order(names: set[str], page_size: int) -> None:
    pages = walk(sorted(names, key=hash), page_size)
    assert [name for page in pages for name in page] == sorted(names)
    assert all(len(page) == page_size for page in pages[:-1])


def test_page_size_has_a_default_and_a_maximum() -> None:
    assert len(take_page(request(), NAMES, sort_key=str).items) == PAGE_SIZE_DEFAULT
    assert len(take_page(request(pageSize=0), NAMES, sort_key=str).items) == PAGE_SIZE_DEFAULT
    assert len(take_page(request(pageSize=100_000), NAMES, sort_key=str).items) == PAGE_SIZE_MAX


def test_what_comes_and_goes_between_pages_neither_repeats_nor_hides_the_rest() -> None:
    first = take_page(request(pageSize=2), ["b", "d", "f", "h"], sort_key=str)
    second = take_page(request(pageSize=2, pageToken=first.next_page_token), ["a", "f", "g", "h"], sort_key=str)
    assert (first.items, second.items) == (["b", "d"], ["f", "g"])


@pytest.mark.parametrize("token", ["x", "äö", "AAAA", "W10=", "bnVsbA=="])
def test_a_token_that_was_not_given_out_is_refused(token: str) -> None:
    with pytest.raises(HearthError, match="pageToken"):
        take_page(request(pageToken=token), NAMES, sort_key=str)


def test_a_token_of_another_list_is_refused() -> None:
    token = take_page(request(pageSize=1), NAMES, sort_key=str).next_page_token
    for other in (request("/v1/accounts/other/models", pageToken=token), request(showDeleted="true", pageToken=token)):
        with pytest.raises(HearthError, match="asked for differently"):
            take_page(other, NAMES, sort_key=str)


@pytest.mark.parametrize("size", ["-1", "many", "1.5", "٣", "9" * 30])
def test_a_page_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(HearthError, match="pageSize"):
        take_page(request(pageSize=size), NAMES, sort_key=str)


@pytest.mark.parametrize("name", ["filter", "orderBy", "readMask"])
def test_parameters_of_later_versions_are_refused_by_name(name: str) -> None:
    with pytest.raises(HearthError, match=f"^{name}: ") as caught:
        take_page(request(**{name: "state"}), NAMES, sort_key=str)
    assert caught.value.param == name
    assert take_page(request(**{name: ""}), NAMES, sort_key=str).items


def test_a_read_mask_of_everything_asks_for_nothing() -> None:
    refuse_query(request(readMask="*"), "readMask")


def test_flags_are_true_or_false() -> None:
    assert flag(request(hard="true"), "hard")
    assert flag(request(hard="1"), "hard")
    assert not any(flag(request(hard=text), "hard") for text in ("false", "0", ""))
    assert not flag(request(), "hard")
    with pytest.raises(HearthError, match="hard: expected true or false"):
        flag(request(hard="maybe"), "hard")
