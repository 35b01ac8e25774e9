"""What usage costs."""

import pytest

from appliance.config import PriceSettings, TokenPrice
from appliance.domain import TokenCounts, TokenUser
from appliance.services.prices import Prices

SHARED = TokenUser(
    account_id="acme",
    user_id="ada",
    key_id="k",
    deployment="accounts/library/deployments/d",
    model="accounts/library/models/m",
)
OWN = TokenUser(
    account_id="acme",
    user_id="ada",
    key_id="k",
    deployment="accounts/acme/deployments/d",
    model="accounts/library/models/m",
)
COUNTS = TokenCounts(
    num_requests=1, num_prompt_tokens=3_000_000, num_cached_tokens=1_000_000, num_completion_tokens=500_000
)


def prices(**tokens: TokenPrice) -> Prices:
    named = {name.replace("_", "/"): price for name, price in tokens.items()}
    return Prices(PriceSettings(token_prices=named, accelerator_hour_prices={"NVIDIA_L4_24GB": 0.9}))


def test_cached_prompt_tokens_have_their_own_price() -> None:
    table = prices(default=TokenPrice(prompt=0.2, cached_prompt=0.05, completion=0.8))
    assert table.token_cost(SHARED, COUNTS) == pytest.approx(2 * 0.2 + 0.05 + 0.5 * 0.8)


def test_sound_and_pictures_have_prices_of_their_own() -> None:
    table = prices(default=TokenPrice(prompt=0.2, audio_minute=0.006, image=0.04))
    used = TokenCounts(num_requests=3, audio_ms=90_000, num_images=2)
    assert table.token_cost(SHARED, used) == pytest.approx(1.5 * 0.006 + 2 * 0.04)
    assert table.token_cost(OWN, used) == 0.0


def test_without_one_they_cost_what_others_do() -> None:
    assert prices(default=TokenPrice(prompt=0.2)).token_cost(SHARED, COUNTS) == pytest.approx(0.6)


def test_a_models_own_price_goes_before_the_default() -> None:
    table = prices(default=TokenPrice(prompt=9.0), accounts_library_models_m=TokenPrice(prompt=1.0))
    assert table.token_cost(SHARED, COUNTS) == pytest.approx(3.0)
    assert table.of_model("accounts/acme/models/other").prompt == 9.0


def test_tokens_on_ones_own_deployment_are_paid_by_its_devices_time() -> None:
    table = prices(default=TokenPrice(prompt=9.0))
    assert table.token_cost(OWN, COUNTS) == 0.0
    assert table.accelerator_cost("NVIDIA_L4_24GB", 7200.0) == pytest.approx(1.8)


def test_what_has_no_price_costs_nothing() -> None:
    assert prices().token_cost(SHARED, COUNTS) == 0.0
    assert prices().accelerator_cost("CPU", 3600.0) == 0.0
    assert Prices(PriceSettings()).is_empty
    assert not prices().is_empty
