from collections.abc import Mapping

import msgspec
import pytest

from appliance.sdk.listing import PAGE_SIZE, Listing


class Page(msgspec.Struct):
    number: int
    next_page_token: str = ""


class Server:
    """Three pages, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, object]] = []

    def __call__(self, query: Mapping[str, object]) -> Page:
        self.asked.append(query)
        number = int(str(query["pageToken"]).removeprefix("after-") or 0) + 1
        return Page(number, f"after-{number}" if number < 3 else "")


def numbers(listing: Listing, server: Server | None = None) -> list[int]:
    return [page.number for page in listing.pages(server or Server(), {})]


def test_a_list_is_whole_unless_a_page_is_asked_for() -> None:
    whole = Listing()
    assert numbers(whole) == [1, 2, 3]
    assert not whole.is_cut


def test_one_page_tells_where_the_next_begins() -> None:
    page = Listing(page_size=5, is_whole=False)
    server = Server()
    assert numbers(page, server) == [1]
    assert (page.is_cut, page.next_page_token) == (True, "after-1")
    assert [asked["pageSize"] for asked in server.asked] == [5]


@pytest.mark.parametrize(("token", "expected"), [("after-1", [2]), ("2", [2]), ("1", [1]), ("3", [3]), ("0", [1])])
def test_a_page_is_found_by_its_token_and_by_its_number(token: str, expected: list[int]) -> None:
    assert numbers(Listing(page_token=token, is_whole=False)) == expected


def test_there_is_nothing_on_a_page_after_the_last() -> None:
    listing = Listing(page_token="9", is_whole=False)
    assert numbers(listing) == []
    assert not listing.is_cut


def test_from_a_page_on_to_the_end() -> None:
    assert numbers(Listing(page_token="2")) == [2, 3]


def test_what_a_list_is_asked_for_by_its_command_comes_before_what_all_are() -> None:
    server = Server()
    listing = Listing(filter="a=1", order_by="name", is_whole=False)
    list(listing.pages(server, {"filter": "b=2", "orderBy": "", "showDeleted": True}))
    assert server.asked == [
        {"filter": "b=2", "orderBy": "name", "showDeleted": True, "pageSize": PAGE_SIZE, "pageToken": ""}
    ]
