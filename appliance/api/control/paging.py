"""Query parameters of the control plane: flags, and lists page by page.

A page token names the last resource of its page, so pages neither repeat nor skip what stays while others come and go.
"""

import base64
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from appliance.api.control.filters import Fields, select
from appliance.api.control.wire import not_served
from appliance.errors import Code, HearthError

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
"""Larger requests get this many."""

T = TypeVar("T")


class Page(NamedTuple, Generic[T]):
    items: list[T]
    next_page_token: str
    """Empty on the last page."""
    total_size: int


class _Position(msgspec.Struct, frozen=True, array_like=True):
    """What a page token says."""

    list_name: str
    after: str


def flag(request: web.Request, name: str) -> bool:
    match request.query.get(name, "").lower():
        case "" | "false" | "0":
            return False
        case "true" | "1":
            return True
        case text:
            raise HearthError(Code.INVALID, f"{name}: expected true or false, got {text[:40]!r}", name)


def refuse_query(request: web.Request, *names: str) -> None:
    """Raise `invalid` naming the first parameter that would have to be ignored; a mask of `*` masks nothing."""
    for name in names:
        if request.query.get(name, "") not in ("", "*"):
            raise not_served(name)


def take_page(
    request: web.Request, resources: Iterable[T], sort_key: Callable[[T], str], fields: Fields[T] | None = None
) -> Page[T]:
    """The page that the query asks for, in the order of `sort_key`, which is unique; `fields` can be filtered by."""
    refuse_query(request, "orderBy", "readMask")
    if fields is None:
        refuse_query(request, "filter")
    else:
        resources = select(request.query.get("filter", ""), resources, fields)
    resources = sorted(resources, key=sort_key)
    after = _position(request)
    rest = [resource for resource in resources if sort_key(resource) > after]
    page = rest[: _page_size(request)]
    token = _token(request, sort_key(page[-1])) if len(page) < len(rest) else ""
    return Page(page, token, len(resources))


def _page_size(request: web.Request) -> int:
    text = request.query.get("pageSize") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise HearthError(Code.INVALID, f"pageSize: expected a number, got {text[:40]!r}", "pageSize")
    return min(int(text) or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _position(request: web.Request) -> str:
    text = request.query.get("pageToken", "")
    if not text:
        return ""
    try:
        position = msgspec.json.decode(base64.b64decode(text, altchars=b"-_", validate=True), type=_Position)
    except (ValueError, msgspec.DecodeError) as error:
        raise HearthError(Code.INVALID, "pageToken: this is no page token", "pageToken") from error
    if position.list_name != _list_name(request):
        raise HearthError(Code.INVALID, "pageToken: it belongs to a list asked for differently", "pageToken")
    return position.after


def _token(request: web.Request, after: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_Position(_list_name(request), after))).decode()


def _list_name(request: web.Request) -> str:
    """The list's path and whatever chose its members: the same on every page."""
    others = sorted((name, value) for name, value in request.query.items() if name not in ("pageSize", "pageToken"))
    return f"{request.path}?{others}"
