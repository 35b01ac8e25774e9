"""How much of a list is fetched: every page of it, unless one page is asked for. Knows no sockets."""

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar

PAGE_SIZE = 200
"""The largest that the API gives."""


class Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


PageT = TypeVar("PageT", bound=Page)
PageT_co = TypeVar("PageT_co", bound=Page, covariant=True)


class Listing:
    """What is asked of every list of a client."""

    def __init__(
        self,
        *,
        page_size: int | None = None,
        page_token: str = "",
        is_whole: bool = True,
        filter: str = "",
        order_by: str = "",
    ) -> None:
        self._page_size = page_size or PAGE_SIZE
        self._page_token = page_token
        """As an earlier page gave it, or the number of a page, counted from 1."""
        self._is_whole = is_whole
        self._selection = {"filter": filter, "orderBy": order_by}
        self.next_page_token = ""
        """Where the last page that was fetched is followed by another."""

    @property
    def is_cut(self) -> bool:
        """Whether there is more than was asked for."""
        return not self._is_whole and bool(self.next_page_token)

    def pages(self, fetch: "Fetch[PageT]", query: Mapping[str, object]) -> Iterator[PageT]:
        asked = {**query, **{name: value for name, value in self._selection.items() if value and not query.get(name)}}
        is_number = self._page_token.isascii() and self._page_token.isdigit()
        left_out = max(int(self._page_token) - 1, 0) if is_number else 0
        token = "" if is_number else self._page_token
        while True:
            page = fetch({**asked, "pageSize": self._page_size, "pageToken": token})
            self.next_page_token = token = page.next_page_token
            if left_out == 0:
                yield page
            if not token or (not self._is_whole and left_out == 0):
                return
            left_out = max(left_out - 1, 0)


class Fetch(Protocol[PageT_co]):
    def __call__(self, query: Mapping[str, object]) -> PageT_co: ...
