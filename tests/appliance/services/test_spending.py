"""This month's, by account, user and key."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import PriceSettings, TokenPrice
from appliance.domain import AcceleratorUser, QuotaMetric, TokenCounts, TokenUser
from appliance.services.prices import Prices
from appliance.services.spending import Amounts, Spending, Subject, month_start, next_month_start
from appliance.store.accelerator_usage import AcceleratorSum
from appliance.store.token_usage import TokenSum
from tests.appliance.services.accounting_world import USER
from tests.fakes.fake_clock import FakeClock

SETTINGS = PriceSettings(
    token_prices={"default": TokenPrice(prompt=1.0, completion=2.0)}, accelerator_hour_prices={"CPU": 36.0}
)
MILLION = TokenCounts(num_requests=1, num_prompt_tokens=1_000_000, num_completion_tokens=1_000_000)
DEVICES = AcceleratorUser(account_id="acme", deployment="d", base_model="m", accelerator_type="CPU")
SUBJECTS = [Subject("acme"), Subject("acme", "users/ada"), Subject("acme", "apiKeys/key")]


@pytest.fixture
def wall() -> FakeClock:
    return FakeClock(datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC).timestamp())


@pytest.fixture
def spending(wall: FakeClock) -> Spending:
    return Spending(Prices(SETTINGS), wall)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_request_counts_for_account_user_and_key(spending: Spending, subject: Subject) -> None:
    spending.add_tokens(USER, MILLION)
    spending.add_tokens(USER, MILLION)
    assert spending.used(subject) == Amounts(tokens=4_000_000, cost=6.0)


def test_devices_are_the_accounts(spending: Spending) -> None:
    spending.add_accelerators(DEVICES, 200.0)
    assert spending.used(SUBJECTS[0]) == Amounts(accelerator_seconds=200.0, cost=2.0)
    assert spending.used(SUBJECTS[0]).of(QuotaMetric.MONTHLY_ACCELERATOR_SECONDS) == 200.0
    assert spending.used(SUBJECTS[1]) == Amounts()


def test_others_have_used_nothing(spending: Spending) -> None:
    spending.add_tokens(USER, MILLION)
    other = TokenUser(account_id="globex", user_id="ada", key_id="key", deployment=USER.deployment, model=USER.model)
    spending.add_tokens(other, TokenCounts(num_prompt_tokens=3))
    assert spending.used(Subject("globex", "users/ada")).tokens == 3


def test_what_is_held_is_given_back_whole(spending: Spending) -> None:
    spending.hold(USER, Amounts(tokens=5, cost=1.0))
    spending.hold(USER, Amounts(tokens=7, cost=2.0))
    assert spending.held(SUBJECTS[2]) == Amounts(tokens=12, cost=3.0)
    spending.release(USER, Amounts(tokens=5, cost=1.0))
    assert spending.held(SUBJECTS[2]) == Amounts(tokens=7, cost=2.0)
    spending.release(USER, Amounts(tokens=7, cost=2.0))
    assert spending.held(SUBJECTS[2]) == Amounts()


def test_what_costs_without_tokens_is_held_as_well(spending: Spending) -> None:
    for cost in (0.1, 0.2, 0.7):
        spending.hold(USER, Amounts(cost=cost))
    spending.release(USER, Amounts(cost=0.1))
    assert spending.held(SUBJECTS[2]).cost == pytest.approx(0.9)
    spending.release(USER, Amounts(cost=0.7))
    spending.release(USER, Amounts(cost=0.2))
    assert spending.held(SUBJECTS[2]) == Amounts()


def test_a_month_ends_with_its_last_second(spending: Spending, wall: FakeClock) -> None:
    spending.add_tokens(USER, MILLION)
    wall.advance(9.9)
    assert spending.used(SUBJECTS[0]).tokens == 2_000_000
    wall.advance(0.1)
    assert spending.used(SUBJECTS[0]) == Amounts()
    assert spending.month_started_at == wall()


def test_the_store_tells_what_the_month_has_used_so_far(spending: Spending) -> None:
    spending.load([TokenSum(USER, MILLION)], [AcceleratorSum(DEVICES, 100.0)])
    assert spending.used(SUBJECTS[0]) == Amounts(tokens=2_000_000, accelerator_seconds=100.0, cost=4.0)


@given(st.floats(0, 4e9))
def test_every_moment_lies_in_its_month(now: float) -> None:
    start, end = month_start(now), next_month_start(now)
    assert start <= now < end
    assert 28 * 86400 <= end - start <= 31 * 86400
    assert month_start(end) == end


def test_subjects_are_named_in_full() -> None:
    assert [str(subject) for subject in SUBJECTS] == [
        "accounts/acme",
        "accounts/acme/users/ada",
        "accounts/acme/apiKeys/key",
    ]
