import pytest

from appliance.api.control.money import to_money
from appliance.config import PriceSettings, TokenPrice
from appliance.services.prices import Prices

PRICED = Prices(PriceSettings(currency="EUR", token_prices={"default": TokenPrice(prompt=1.0)}))


@pytest.mark.parametrize(
    ("amount", "units", "nanos"), [(0.0, "0", 0), (12.34, "12", 340_000_000), (0.9999999999, "1", 0), (1e-9, "0", 1)]
)
def test_an_amount_is_whole_units_and_billionths(amount: float, units: str, nanos: int) -> None:
    money = to_money(amount, PRICED)
    assert money is not None
    assert (money.currency_code, money.units, money.nanos) == ("EUR", units, nanos)


def test_without_prices_there_is_no_money() -> None:
    assert to_money(1.0, Prices(PriceSettings())) is None
