"""The options that every `hearth list …` takes, and what they ask of the lists of a client."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from appliance.sdk.listing import Listing

Filter = Annotated[
    str, typer.Option("--filter", metavar="FILTER", help="For example 'state=READY AND displayName:blue'.")
]
OrderBy = Annotated[str, typer.Option("--order-by", metavar="FIELDS", help="For example 'createTime desc, name'.")]
PageSize = Annotated[
    int | None, typer.Option("--page-size", min=1, max=200, metavar="N", help="Show one page of so many.")
]
PageToken = Annotated[
    str, typer.Option("--page-token", metavar="PAGE", help="The page's number, or what the page before it ended with.")
]
NoPaginate = Annotated[bool, typer.Option("--no-paginate", help="Show all pages, as without a page's size or token.")]

PAGING: dict[str, tuple[object, object]] = {
    "page_size": (PageSize, None),
    "page_token": (PageToken, ""),
    "no_paginate": (NoPaginate, False),
}
"""Annotation and default."""
SELECTION: dict[str, tuple[object, object]] = {"only": (Filter, ""), "order_by": (OrderBy, "")}
"""Of the lists that do not take them by themselves."""


def listing_of(given: Mapping[str, Any]) -> "Listing":
    """One page when one is asked for; else the whole list."""
    from appliance.sdk.listing import Listing

    is_page = bool(given.get("page_size") or given.get("page_token")) and not given.get("no_paginate")
    return Listing(
        page_size=given.get("page_size"),
        page_token=given.get("page_token") or "",
        is_whole=not is_page,
        filter=given.get("only") or "",
        order_by=given.get("order_by") or "",
    )
