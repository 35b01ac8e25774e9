"""Routes of the API's own description: the document, and a page that shows it.

Both are public, for they say nothing of this machine or of who uses it. The page's renderer is vendored and loads
nothing from elsewhere; `docs_page/README.md` says what it is.
"""

import gzip
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from appliance.api.openapi import DOCUMENT
from appliance.api.routing import Content, Permission, Route
from appliance.errors import Code, HearthError

DIRECTORY = Path(__file__).parent.parent / "docs_page"


class Asset(NamedTuple):
    filename: str
    media_type: str


ASSETS = {
    "swagger-ui-bundle.js": Asset("swagger-ui-bundle.js.gz", "text/javascript"),
    "swagger-ui.css": Asset("swagger-ui.css.gz", "text/css"),
    "start.js": Asset("start.js", "text/javascript"),
    "page.css": Asset("page.css", "text/css"),
    "LICENSE": Asset("LICENSE", "text/plain"),
}
PAGE = Asset("index.html", "text/html")

_CONTENTS = {asset.filename: (DIRECTORY / asset.filename).read_bytes() for asset in (PAGE, *ASSETS.values())}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def show_openapi(request: web.Request) -> web.StreamResponse:
    """This API as an OpenAPI document."""
    return web.Response(body=request.app[DOCUMENT].encoded, content_type="application/json")


async def show_docs(request: web.Request) -> web.StreamResponse:
    """This API as a page for a browser."""
    return _answer(request, PAGE)


async def show_docs_asset(request: web.Request) -> web.StreamResponse:
    """A part of that page."""
    asset = ASSETS.get(request.match_info["asset"])
    if asset is None:
        raise HearthError(Code.NOT_FOUND, "the page has no such part", "asset")
    return _answer(request, asset)


def _answer(request: web.Request, asset: Asset) -> web.Response:
    content, headers = _CONTENTS[asset.filename], dict(HEADERS)
    if asset.filename.endswith(".gz"):
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
    return web.Response(body=content, content_type=asset.media_type, charset="utf-8", headers=headers)


ROUTES = [
    Route(
        "GET",
        "/openapi.json",
        show_openapi,
        Permission.PUBLIC,
        answer=Content("application/json", "An OpenAPI 3.1 document."),
    ),
    Route(
        "GET",
        "/docs",
        show_docs,
        Permission.PUBLIC,
        answer=Content("text/html", "The page.", is_text=True),
    ),
    Route(
        "GET",
        "/docs/{asset}",
        show_docs_asset,
        Permission.PUBLIC,
        answer=Content("text/*", "A script, a style sheet or a licence.", is_text=True),
    ),
]
