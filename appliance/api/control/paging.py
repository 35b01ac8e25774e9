"""Lists page by page, filtered, ordered and masked; and single answers masked.

A page token holds the place of its page's last resource, so pages neither repeat nor skip what stays while others come
and go.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.filters import parse_filter
from appliance.api.control.masks import parse_mask
from appliance.api.control.ordering import Order, parse_order
from appliance.api.control.page_tokens import PAGE_TOKENS
from appliance.api.control.wire import Answer
from appliance.errors import Code, HearthError

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
"""Larger requests get this many."""
RENDERED_MAX = 20_000
RENDERED_AT_ONCE = 256

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer)


def masked_response(request: web.Request, answer: Answer) -> web.Response:
    """One resource, as much of it as the readMask asks for."""
    return json_response(parse_mask(request.query.get("readMask", ""), type(answer)).apply(answer))


def list_response(
    request: web.Request,
    plural: str,
    answer: type[AnswerT],
    resources: Iterable[T],
    render: Callable[[T], AnswerT],
    default_order: str = "",
    unique: str = "name",
) -> web.Response:
    """The page that the query asks for, under its plural; no two resources share the field `unique`."""
    matches = parse_filter(request.query.get("filter", ""), answer)
    order = parse_order(request.query.get("orderBy") or default_order or unique, answer, unique)
    mask = parse_mask(request.query.get("readMask", ""), answer)
    found = [rendered for resource in resources if matches(rendered := render(resource))]
    page, next_page_token = _take_page(request, found, order)
    return json_response(
        {plural: [mask.apply(item) for item in page], "nextPageToken": next_page_token, "totalSize": len(found)}
    )


def is_asked_plainly(request: web.Request) -> bool:
    """All of it, in its own order: then a page can be read without what comes before and after it."""
    return not request.query.get("filter") and not request.query.get("orderBy")


def asked_place(request: web.Request) -> list[Any]:
    """The place of the last resource of the page before; empty for the first page."""
    token = request.query.get("pageToken", "")
    return request.app[PAGE_TOKENS].read(token, name_of_list(request)) if token else []


def page_response(
    request: web.Request, plural: str, answer: type[AnswerT], found: list[AnswerT], size: int, total: int
) -> web.Response:
    """A page that was read by itself, by name, with one more than was asked for if there is one."""
    mask, page, token = parse_mask(request.query.get("readMask", ""), answer), found[:size], ""
    if len(found) > size:
        place = parse_order("name", answer, "name").place(page[-1])
        token = request.app[PAGE_TOKENS].issue(name_of_list(request), place)
    return json_response({plural: [mask.apply(item) for item in page], "nextPageToken": token, "totalSize": total})


class RenderedOnce(Generic[T, AnswerT]):
    """For long lists: the answer of an identical resource is the one given before. It may depend on nothing else."""

    def __init__(self, render: Callable[[T], AnswerT]) -> None:
        self._render = render
        self._remembered: dict[int, tuple[T, AnswerT]] = {}

    def __call__(self, resource: T) -> AnswerT:
        before = self._remembered.get(id(resource))
        if before is None or before[0] is not resource:
            if len(self._remembered) >= RENDERED_MAX:
                del self._remembered[next(iter(self._remembered))]
            before = self._remembered[id(resource)] = resource, self._render(resource)
        return before[1]

    async def prepare(self, resources: Iterable[T]) -> None:
        """Render those that are new, while everybody else goes on."""
        known = self._remembered
        new = [each for each in resources if (before := known.get(id(each))) is None or before[0] is not each]
        for number, resource in enumerate(new):
            self(resource)
            if number % RENDERED_AT_ONCE == 0:
                await asyncio.sleep(0)


def _take_page(request: web.Request, found: list[AnswerT], order: Order) -> tuple[list[AnswerT], str]:
    size, after = asked_page_size(request), asked_place(request)
    order.sort(found)
    begin = order.index_after(after, found) if after else 0
    page = found[begin : begin + size]
    is_last = begin + size >= len(found)
    return page, "" if is_last else request.app[PAGE_TOKENS].issue(name_of_list(request), order.place(page[-1]))


def asked_page_size(request: web.Request) -> int:
    text = request.query.get("pageSize") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise HearthError(Code.INVALID, f"pageSize: expected a number, got {text[:40]!r}", "pageSize")
    return min(int(text) or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def name_of_list(request: web.Request) -> str:
    """The list's path and whatever chose and ordered its members: the same on every page."""
    own = ("pageSize", "pageToken", "readMask")
    others = sorted((name, value) for name, value in request.query.items() if name not in own)
    return hashlib.sha256(f"{request.path}?{others}".encode(errors="surrogateescape")).hexdigest()
