import json
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.control.page_tokens import PAGE_TOKENS, PageTokens
from appliance.api.control.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, list_response, masked_response
from appliance.errors import HearthError
from tests.appliance.api.control.sample_answers import BOATS, Boat

APP = web.Application()
APP[PAGE_TOKENS] = PageTokens(b"k" * 32)
NAMES = [f"boat-{number:03}" for number in range(230)]


def request(path: str = "/v1/accounts/acme/boats", **query: object) -> web.Request:
    return make_mocked_request("GET", f"{path}?{urlencode(query)}", app=APP)


def read(response: web.Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def page(asked: web.Request, boats: list[Boat] = BOATS) -> Any:
    return read(list_response(asked, "boats", Boat, boats, lambda boat: boat))


def named(names: list[str]) -> list[Boat]:
    return [Boat(name=name, mast_count=len(name)) for name in names]


def names_of(answer: Any) -> list[str]:
    return [boat["name"] for boat in answer["boats"]]


def walk(boats: list[Boat], page_size: int, order_by: str = "") -> list[list[str]]:
    pages, token = [], ""
    while True:
        answer = page(request(pageSize=page_size, pageToken=token, orderBy=order_by), boats)
        assert answer["totalSize"] == len(boats)
        pages.append(names_of(answer))
        token = answer["nextPageToken"]
        if not token:
            return pages


@given(st.sets(st.text(min_size=1, max_size=5), max_size=30), st.integers(1, 7))
def test_pages_hold_everything_once_and_in_order(names: set[str], page_size: int) -> None:
    pages = walk(named(sorted(names, key=hash)), page_size)
    assert [name for each in pages for name in each] == sorted(names)
    assert all(len(each) == page_size for each in pages[:-1])


@given(st.sets(st.text("abc", max_size=4), max_size=30), st.integers(1, 7))
def test_so_do_pages_of_any_order(names: set[str], page_size: int) -> None:
    pages = walk(named(list(names)), page_size, order_by="mastCount desc, name")
    assert [name for each in pages for name in each] == sorted(names, key=lambda name: (-len(name), name))


def test_page_size_has_a_default_and_a_maximum() -> None:
    boats = named(NAMES)
    assert len(page(request(), boats)["boats"]) == PAGE_SIZE_DEFAULT
    assert len(page(request(pageSize=0), boats)["boats"]) == PAGE_SIZE_DEFAULT
    assert len(page(request(pageSize=100_000), boats)["boats"]) == PAGE_SIZE_MAX


def test_what_comes_and_goes_between_pages_neither_repeats_nor_hides_the_rest() -> None:
    first = page(request(pageSize=2), named(["b", "d", "f", "h"]))
    second = page(request(pageSize=2, pageToken=first["nextPageToken"]), named(["a", "f", "g", "h"]))
    assert (names_of(first), names_of(second)) == (["b", "d"], ["f", "g"])


def test_a_list_is_filtered_ordered_and_masked_as_asked() -> None:
    answer = page(request(filter="state=READY", orderBy="name desc", readMask="displayName", pageSize=1))
    assert answer["boats"] == [{"displayName": ""}]
    assert answer["totalSize"] == 2
    rest = page(
        request(
            filter="state=READY",
            orderBy="name desc",
            readMask="displayName,state",
            pageToken=answer["nextPageToken"],
        )
    )
    assert rest["boats"] == [{"displayName": "Ada the First", "state": "READY"}]


def test_an_empty_list_still_has_its_array() -> None:
    assert page(request(), []) == {"boats": [], "nextPageToken": "", "totalSize": 0}


@pytest.mark.parametrize("token", ["x", "äö", "AAAA", "W10=", "bnVsbA=="])
def test_a_token_that_was_not_given_out_is_refused(token: str) -> None:
    with pytest.raises(HearthError, match="pageToken"):
        page(request(pageToken=token))


def test_a_token_of_another_list_is_refused() -> None:
    token = page(request(pageSize=1))["nextPageToken"]
    for other in (
        request("/v1/accounts/other/boats", pageToken=token),
        request(showDeleted="true", pageToken=token),
        request(orderBy="name desc", pageToken=token),
        request(filter="state=READY", pageToken=token),
    ):
        with pytest.raises(HearthError, match="did not give it out"):
            page(other)


@pytest.mark.parametrize("size", ["-1", "many", "1.5", "٣", "9" * 30])
def test_a_page_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(HearthError, match="pageSize"):
        page(request(pageSize=size))


@pytest.mark.parametrize("name", ["filter", "orderBy", "readMask"])
def test_what_a_list_does_not_have_is_refused_by_the_parameters_name(name: str) -> None:
    with pytest.raises(HearthError, match=f"^{name}: ") as caught:
        page(request(**{name: "sails=1" if name == "filter" else "sails"}))
    assert caught.value.param == name
    assert page(request(**{name: ""}))["totalSize"] == len(BOATS)


def test_a_single_answer_is_masked_as_asked() -> None:
    assert read(masked_response(request(readMask="state"), BOATS[1])) == {"state": "FAILED"}
    assert read(masked_response(request(), BOATS[1]))["displayName"] == "bob"
