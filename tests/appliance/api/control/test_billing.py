"""Bills through the API; their arithmetic without it."""

import pytest
from msgspec.structs import replace

from appliance.api.control.billing import line_items
from appliance.config import PriceSettings, TokenPrice
from appliance.domain import TokenCounts
from appliance.services.prices import Prices
from appliance.services.usage import DEVICES, TOKENS, Dimension, Place, UsageRow
from tests.appliance.api.conftest import READY_MODEL, Api
from tests.appliance.api.control.test_usage import chat, get, window
from tests.fakes.fake_router import NUM_CACHED_TOKENS, NUM_PROMPT_TOKENS, WORDS

PRICES = Prices(
    PriceSettings(
        currency="EUR",
        token_prices={"default": TokenPrice(prompt=2.0, cached_prompt=1.0, completion=4.0)},
        accelerator_hour_prices={"NVIDIA_L4_24GB": 0.5},
    )
)
NO_PRICES = Prices(PriceSettings())
COUNTS = TokenCounts(num_prompt_tokens=3_000_000, num_cached_tokens=1_000_000, num_completion_tokens=500_000)


def row(place: Place, kind: str, accelerator_seconds: float = 0.0) -> UsageRow:
    group = {Dimension.MODEL: "m", Dimension.DEPLOYMENT: "d", Dimension.ACCELERATOR: "NVIDIA_L4_24GB"}
    counts = COUNTS if kind == TOKENS else TokenCounts()
    return UsageRow(
        place=place,
        kind=kind,
        started_at=0.0,
        ended_at=1.0,
        group=group,
        counts=counts,
        accelerator_seconds=accelerator_seconds,
    )


def test_tokens_on_shared_deployments_cost_what_each_kind_does() -> None:
    items = list(line_items([row(Place.SERVERLESS, TOKENS)], PRICES))
    costs = [(item.category, item.quantity, item.total_cost and item.total_cost.units) for item in items]
    assert costs == [
        ("Prompt tokens", 2_000_000, "4"),
        ("Cached prompt tokens", 1_000_000, "1"),
        ("Completion tokens", 500_000, "2"),
    ]
    assert {item.total_cost and item.total_cost.currency_code for item in items} == {"EUR"}


def test_sound_and_pictures_are_billed_by_the_minute_and_the_piece() -> None:
    prices = Prices(PriceSettings(token_prices={"default": TokenPrice(audio_minute=0.5, image=2.0)}))
    used = replace(row(Place.SERVERLESS, TOKENS), counts=TokenCounts(num_requests=2, audio_ms=90_000, num_images=3))
    *_, audio, images = line_items([used], prices)
    assert (audio.category, audio.quantity, audio.total_cost and audio.total_cost.nanos) == (
        "Audio minutes",
        1.5,
        750_000_000,
    )
    assert (images.category, images.quantity, images.total_cost and images.total_cost.units) == ("Images", 3, "6")


def test_ones_own_deployment_costs_the_time_of_its_devices() -> None:
    rows = [row(Place.DEDICATED_DEPLOYMENT, TOKENS), row(Place.DEDICATED_DEPLOYMENT, DEVICES, 5400.0)]
    *tokens, devices = line_items(rows, PRICES)
    assert {item.total_cost and (item.total_cost.units, item.total_cost.nanos) for item in tokens} == {("0", 0)}
    assert (devices.category, devices.grouping_value) == ("Device hours", "NVIDIA_L4_24GB")
    assert devices.quantity == pytest.approx(1.5)
    assert devices.total_cost is not None
    assert devices.total_cost.nanos == 750_000_000


def test_without_prices_nothing_is_said_of_costs() -> None:
    assert {item.total_cost for item in line_items([row(Place.SERVERLESS, TOKENS)], NO_PRICES)} == {None}


async def test_the_summary_adds_everything_up(api: Api) -> None:
    await chat(api)
    status, answer = await get(api, "/v1/accounts/hearth/billing/summary", window())
    assert status == 200
    assert [(item["category"], item["quantity"]) for item in answer["lineItems"]] == [
        ("Prompt tokens", NUM_PROMPT_TOKENS - NUM_CACHED_TOKENS),
        ("Cached prompt tokens", NUM_CACHED_TOKENS),
        ("Completion tokens", len(WORDS)),
    ]
    assert {item["groupingValue"] for item in answer["lineItems"]} == {READY_MODEL}
