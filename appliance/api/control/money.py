"""Amounts of money as the API writes them."""

from typing import Annotated

import msgspec

from appliance.api.control.wire import Answer
from appliance.services.prices import Prices

NANOS = 1_000_000_000


class Money(Answer, frozen=True, kw_only=True):
    currency_code: Annotated[str, msgspec.Meta(examples=["USD"])]
    units: Annotated[str, msgspec.Meta(description="Whole units of the currency.", examples=["12"])]
    nanos: Annotated[int, msgspec.Meta(description="Billionths of a unit.", examples=[340_000_000])]


def to_money(amount: float, prices: Prices) -> Money | None:
    """None where there are no prices, and nothing costs anything or nothing."""
    if prices.is_empty:
        return None
    units, nanos = divmod(round(amount * NANOS), NANOS)
    return Money(currency_code=prices.currency, units=str(units), nanos=nanos)
