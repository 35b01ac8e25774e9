"""Lists page by page, filtered, ordered and masked; single answers masked; and flags in the query.

A page token holds the place of its page's last resource, so pages neither repeat nor skip what stays while others come
and go.
"""

import base64
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.filters import parse_filter
from appliance.api.control.masks import parse_mask
from appliance.api.control.ordering import Order, parse_order
from appliance.api.control.wire import Answer
from appliance.errors import Code, HearthError

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
"""Larger requests get this many."""

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer)


class _Position(msgspec.Struct, frozen=True, array_like=True):
    """What a page token says."""

    list_name: str
    after: list[Any]


def flag(request: web.Request, name: str) -> bool:
    match request.query.get(name, "").lower():
        case "" | "false" | "0":
            return False
        case "true" | "1":
            return True
        case text:
            raise HearthError(Code.INVALID, f"{name}: expected true or false, got {text[:40]!r}", name)


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


def _take_page(request: web.Request, found: list[AnswerT], order: Order) -> tuple[list[AnswerT], str]:
    places = [(order.sort_key(place), place, item) for item in found for place in [order.place(item)]]
    places.sort(key=lambda each: each[0])
    after = _position(request, order)
    if after is not None:
        places = [each for each in places if after < each[0]]
    page = places[: _page_size(request)]
    token = _token(request, page[-1][1]) if len(page) < len(places) else ""
    return [item for _, _, item in page], token


def _page_size(request: web.Request) -> int:
    text = request.query.get("pageSize") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise HearthError(Code.INVALID, f"pageSize: expected a number, got {text[:40]!r}", "pageSize")
    return min(int(text) or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _position(request: web.Request, order: Order) -> tuple[Any, ...] | None:
    text = request.query.get("pageToken", "")
    if not text:
        return None
    try:
        position = msgspec.json.decode(base64.b64decode(text, altchars=b"-_", validate=True), type=_Position)
        if position.list_name == _list_name(request):
            return order.sort_key(position.after)
    except (ValueError, TypeError, msgspec.DecodeError) as error:
        raise HearthError(Code.INVALID, "pageToken: this is no page token", "pageToken") from error
    raise HearthError(Code.INVALID, "pageToken: it belongs to a list asked for differently", "pageToken")


def _token(request: web.Request, after: list[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_Position(_list_name(request), after))).decode()


def _list_name(request: web.Request) -> str:
    """The list's path and whatever chose and ordered its members: the same on every page."""
    own = ("pageSize", "pageToken", "readMask")
    others = sorted((name, value) for name, value in request.query.items() if name not in own)
    return f"{request.path}?{others}"
