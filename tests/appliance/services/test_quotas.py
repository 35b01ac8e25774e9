"""Who sees and sets which quota. How they limit is in test_admission.py and test_levels.py."""

import pytest
from msgspec import UNSET

from appliance.config import PriceSettings, TokenPrice
from appliance.domain import Account, Principal, QuotaMetric, Role
from appliance.errors import Code
from appliance.services.quotas import Known, QuotaAsk
from appliance.services.spending import Subject
from appliance.store.database import Database
from tests.appliance.services.accounting_world import World
from tests.appliance.services.deployment_service import refusal
from tests.appliance.services.samples import GUS, HOME_ADMIN, principal, put, user
from tests.fakes.fake_clock import FakeClock

ACME = Subject("acme")
ADA = Subject("acme", "users/ada")
ADMIN = principal(user_id="root", role=Role.ADMIN)
USER = principal()
REPLICAS = QuotaMetric.REPLICAS


@pytest.fixture
async def world(database: Database, clock: FakeClock) -> World:
    await put(database, Account(id="home", created_at=0.0, updated_at=0.0), user("acme", "ada", Role.USER))
    return World(database, clock, PriceSettings())


async def change(
    world: World, who: Principal = ADMIN, metric: QuotaMetric = REPLICAS, subject: Subject = ACME, **ask: int | None
) -> Known:
    return await world.quotas.update(who, subject, metric, QuotaAsk(**ask))


async def test_a_quota_that_nobody_set_has_no_limit(world: World) -> None:
    known = await world.quotas.get(USER, ACME, REPLICAS)
    assert (known.quota.limit, known.quota.updated_at, known.usage) == (None, None, 0)


async def test_a_quota_survives_a_restart(world: World, clock: FakeClock) -> None:
    await change(world, metric=QuotaMetric.REQUESTS, value=5)
    again = World(world.database, clock, PriceSettings())
    await again.quotas.restore()
    (limit,) = again.quotas.limits_of(ACME)
    assert (limit.metric, limit.limit) == (QuotaMetric.REQUESTS, 5)


async def test_who_keeps_the_box_says_how_far_an_account_may_go(world: World) -> None:
    await change(world, HOME_ADMIN, max_value=10)
    assert (await world.quotas.get(USER, ACME, REPLICAS)).quota.limit == 10
    assert (await change(world, value=10)).quota.limit == 10
    refused = await refusal(change(world, value=11))
    assert (refused.code, refused.param) == (Code.INVALID, "value")
    refused = await refusal(change(world, max_value=11))
    assert (refused.code, refused.param) == (Code.FORBIDDEN, "maxValue")
    assert (await change(world, value=4, max_value=10)).quota.limit == 4


async def test_a_lowered_maximum_holds_whatever_the_account_had_set(world: World) -> None:
    await change(world, value=10)
    known = await change(world, HOME_ADMIN, max_value=3)
    assert (known.quota.value, known.quota.limit) == (10, 3)
    assert (await change(world, HOME_ADMIN, max_value=None)).quota.limit == 10


async def test_a_limit_can_be_lifted(world: World) -> None:
    await change(world, metric=QuotaMetric.REQUESTS, value=1)
    await world.answer(1)
    await change(world, metric=QuotaMetric.REQUESTS, value=None)
    assert world.quotas.limits_of(ACME) == ()
    await world.answer(1)


async def test_a_change_keeps_what_was_taken_of_the_minute(world: World) -> None:
    await change(world, metric=QuotaMetric.REQUESTS, value=3)
    await world.answer(1)
    assert (await change(world, metric=QuotaMetric.REQUESTS, value=5)).usage == 1


async def test_what_is_not_said_stays(world: World) -> None:
    before = (await change(world, value=3)).quota
    assert QuotaAsk().value is UNSET
    assert (await change(world)).quota == before


async def test_users_do_not_change_quotas_and_strangers_see_none(world: World) -> None:
    assert (await refusal(change(world, USER, value=1))).code is Code.FORBIDDEN
    assert (await refusal(change(world, GUS, value=1))).code is Code.NOT_FOUND
    assert (await refusal(world.quotas.list(GUS, ACME))).code is Code.NOT_FOUND
    assert (await refusal(world.quotas.get(GUS, ACME, REPLICAS))).code is Code.NOT_FOUND


async def test_a_subject_that_is_not_there_has_no_quotas(world: World) -> None:
    for subject in (Subject("acme", "users/nobody"), Subject("acme", "apiKeys/nothing")):
        assert (await refusal(world.quotas.list(ADMIN, subject))).code is Code.NOT_FOUND


async def test_what_is_kept_for_the_account_alone_is_no_quota_of_a_user(world: World) -> None:
    listed = [known.quota.metric for known in await world.quotas.list(USER, ADA)]
    assert QuotaMetric.MONTHLY_TOKENS in listed
    assert REPLICAS not in listed
    assert (await refusal(change(world, subject=ADA, value=1))).code is Code.NOT_FOUND


async def test_the_budget_of_money_needs_prices(world: World, clock: FakeClock) -> None:
    refused = await refusal(change(world, metric=QuotaMetric.MONTHLY_SPEND, value=1))
    assert (refused.code, refused.param) == (Code.INVALID, "value")
    priced = World(world.database, clock, PriceSettings(token_prices={"default": TokenPrice(prompt=1.0)}))
    assert (await change(priced, metric=QuotaMetric.MONTHLY_SPEND, value=1)).quota.limit == 1
