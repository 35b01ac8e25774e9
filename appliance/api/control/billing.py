"""Routes of bills: what an account used, summed up; and its cost, where the box has a price table."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.api.codec import json_response
from appliance.api.control.money import Money, to_money
from appliance.api.control.usage import BillingWindow
from appliance.api.control.wire import Answer, decode_query
from appliance.api.routing import Permission, Route, principal, services
from appliance.services.prices import FREE, HOUR_S, MILLION, MINUTE_MS, Prices
from appliance.services.usage import DEVICES, Dimension, Place, UsageAsk, UsageRow

GROUPED_BY = (Dimension.MODEL, Dimension.DEPLOYMENT, Dimension.ACCELERATOR)


class LineItem(Answer, frozen=True, kw_only=True):
    category: Annotated[str, msgspec.Meta(examples=["Prompt tokens"])]
    grouping_key: Annotated[str, msgspec.Meta(examples=["model_name"])]
    grouping_value: str
    secondary_grouping_key: str
    secondary_grouping_value: str
    quantity: Annotated[float, msgspec.Meta(description="Tokens, minutes of sound, pictures, or hours of one device.")]
    unit_amount: Annotated[
        Money | None, msgspec.Meta(description="Of a million tokens, a minute, a picture, or an hour.")
    ] = None
    total_cost: Money | None = None


class BillingSummary(Answer, frozen=True, kw_only=True):
    line_items: list[LineItem]


async def get_billing_summary(request: web.Request) -> web.StreamResponse:
    """See the sums of what an account used, and what they cost."""
    query = decode_query(request, BillingWindow)
    ask = UsageAsk(query.start_time, query.end_time, group_by=GROUPED_BY, is_by_day=False)
    accounting = services(request).accounting
    rows = await accounting.usage.list(principal(request), request.match_info["account_id"], ask)
    return json_response(BillingSummary(line_items=list(line_items(rows, accounting.prices))))


def line_items(rows: Iterable[UsageRow], prices: Prices) -> Iterator[LineItem]:
    for row in rows:
        if row.kind == DEVICES:
            accelerator = row.group[Dimension.ACCELERATOR]
            item = partial(_item, prices, row, Dimension.ACCELERATOR, accelerator)
            yield item("Device hours", row.accelerator_seconds / HOUR_S, prices.of_accelerator_hour(accelerator), 1)
            continue
        model, counts = row.group[Dimension.MODEL], row.counts
        price = FREE if row.place is Place.DEDICATED_DEPLOYMENT else prices.of_model(model)
        item = partial(_item, prices, row, Dimension.MODEL, model)
        yield item("Prompt tokens", counts.num_prompt_tokens - counts.num_cached_tokens, price.prompt, MILLION)
        yield item("Cached prompt tokens", counts.num_cached_tokens, price.of_cached_prompt, MILLION)
        yield item("Completion tokens", counts.num_completion_tokens, price.completion, MILLION)
        if counts.audio_ms:
            yield item("Audio minutes", counts.audio_ms / MINUTE_MS, price.audio_minute, 1)
        if counts.num_images:
            yield item("Images", counts.num_images, price.image, 1)


def _item(
    prices: Prices, row: UsageRow, by: Dimension, value: str, category: str, quantity: float, price: float, per: int
) -> LineItem:
    return LineItem(
        category=category,
        grouping_key=by,
        grouping_value=value,
        secondary_grouping_key=Dimension.DEPLOYMENT,
        secondary_grouping_value=row.group[Dimension.DEPLOYMENT],
        quantity=quantity,
        unit_amount=to_money(price, prices),
        total_cost=to_money(quantity / per * price, prices),
    )


ROUTES = [
    Route(
        "GET",
        "/v1/accounts/{account_id}/billing/summary",
        get_billing_summary,
        Permission.READ,
        answer=BillingSummary,
        query=BillingWindow,
    ),
]
