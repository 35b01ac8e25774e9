"""Whether a request may begin, and what it uses in the end."""

import asyncio
from collections.abc import Callable

import pytest

from appliance.config import PriceSettings, TokenPrice
from appliance.domain import QuotaMetric
from appliance.errors import Code, HearthError
from appliance.services.demands import Demand
from appliance.services.metering import COVERED_AHEAD
from appliance.services.prompt_size import PromptSize
from appliance.services.rate_limits import GRANULE_S, WINDOW_S
from appliance.services.spending import Subject
from appliance.services.tally import PieceTally
from appliance.store.database import Database
from runtime.message import Used
from runtime.tasks.images import Drawn
from tests.appliance.services.accounting_world import (
    ASKER,
    NUM_PROMPT,
    OWN,
    SHARED,
    USER,
    World,
    counts,
    finish,
    more,
    tokens,
)
from tests.appliance.services.deployment_service import refusal
from tests.appliance.services.samples import principal
from tests.fakes.fake_clock import FakeClock

ACME, ADA, KEY = "", "users/ada", "apiKeys/key"
TALKATIVE = PriceSettings(token_prices={"default": TokenPrice(prompt=100_000.0, completion=1_000_000.0)})
"""A dime for a token of the prompt, a dollar for one of the answer."""


@pytest.fixture
def build(database: Database, clock: FakeClock) -> Callable[[PriceSettings], World]:
    return lambda prices: World(database, clock, prices)


@pytest.fixture
def world(build: Callable[[PriceSettings], World]) -> World:
    return build(PriceSettings())


async def begin(world: World, **asked: object) -> HearthError:
    async def attempt() -> None:
        async with world.request(**asked):  # type: ignore[arg-type]
            pass

    return await refusal(attempt())


# ---- rates


async def test_of_100_at_once_exactly_10_get_through(world: World) -> None:
    await world.limit(QuotaMetric.REQUESTS, 10)

    async def ask() -> Code | None:
        try:
            async with world.request() as meter:
                await asyncio.sleep(0)
                await meter.add([tokens(1)])
        except HearthError as error:
            return error.code
        return None

    outcomes = await asyncio.gather(*(ask() for _ in range(100)))
    assert (outcomes.count(None), outcomes.count(Code.RATE_LIMITED)) == (10, 90)


@pytest.mark.parametrize("subject", [ACME, ADA, KEY])
async def test_each_of_account_user_and_key_is_checked(world: World, subject: str) -> None:
    await world.limit(QuotaMetric.REQUESTS, 1, subject)
    await world.answer(3)
    refused = await begin(world)
    assert refused.code is Code.RATE_LIMITED
    assert refused.details == {"quota": "requests-per-minute", "limit": 1, "usage": 1}
    assert f"accounts/acme/{subject}".rstrip("/") in refused.message


async def test_the_tightest_says_how_long_to_wait(world: World) -> None:
    await world.limit(QuotaMetric.REQUESTS, 1, ACME)
    await world.answer(3)
    world.clock.advance(20.0)
    refused = await begin(world)
    assert refused.retry_after_s is not None
    assert 40.0 < refused.retry_after_s <= 40.0 + 2 * GRANULE_S
    world.clock.advance(refused.retry_after_s + 0.001)
    await world.answer(3)


async def test_who_is_refused_by_one_quota_takes_nothing_of_another(world: World) -> None:
    await world.limit(QuotaMetric.REQUESTS, 100, ACME)
    await world.limit(QuotaMetric.REQUESTS, 1, KEY)
    await world.answer(1)
    await begin(world)
    known = await world.quotas.get(ASKER, Subject("acme"), QuotaMetric.REQUESTS)
    assert known.usage == 1


async def test_others_have_quotas_of_their_own(world: World) -> None:
    await world.limit(QuotaMetric.REQUESTS, 1, ADA)
    await world.answer(1)
    await world.answer(1, who=principal(user_id="bob"))


async def test_only_shared_models_count_as_serverless(world: World) -> None:
    await world.limit(QuotaMetric.SERVERLESS_REQUESTS, 1)
    await world.answer(1, target=OWN)
    await world.answer(1, target=SHARED)
    assert (await begin(world, target=SHARED)).code is Code.RATE_LIMITED
    await world.answer(1, target=OWN)


async def test_an_answer_counts_as_the_longest_allowed_until_it_is_known(world: World) -> None:
    await world.limit(QuotaMetric.GENERATED_TOKENS, 100)
    async with world.request(max_tokens=90) as meter:
        assert (await begin(world, max_tokens=20)).code is Code.RATE_LIMITED
        await meter.add([finish(5)])
    await world.answer(20, max_tokens=90)


async def test_a_prompt_is_set_right_when_a_worker_has_counted_it(world: World) -> None:
    await world.limit(QuotaMetric.PROMPT_TOKENS, 2 * NUM_PROMPT)
    async with world.request() as meter:
        longer = tokens(1)
        await meter.add([type(longer)(request_id="r", token_ids=[1], num_prompt_tokens=NUM_PROMPT + 1)])
        assert (await begin(world)).code is Code.RATE_LIMITED


async def test_a_request_larger_than_the_whole_limit_takes_all_of_it(world: World) -> None:
    await world.limit(QuotaMetric.GENERATED_TOKENS, 50)
    async with world.request(max_tokens=1000):
        assert (await begin(world, max_tokens=1)).code is Code.RATE_LIMITED
    await world.answer(1, max_tokens=1000)


async def test_a_limit_of_nothing_lets_nobody_in(world: World) -> None:
    await world.limit(QuotaMetric.REQUESTS, 0)
    refused = await begin(world)
    assert refused.code is Code.RATE_LIMITED
    assert refused.retry_after_s == WINDOW_S


async def test_headers_are_told_of_the_tightest_limit(world: World) -> None:
    assert world.admission.headroom(ASKER, SHARED) == []
    await world.limit(QuotaMetric.REQUESTS, 5, ACME)
    await world.limit(QuotaMetric.SERVERLESS_REQUESTS, 2, KEY)
    await world.limit(QuotaMetric.GENERATED_TOKENS, 300, ACME)
    await world.answer(7)
    room = {each.metric: each[1:] for each in world.admission.headroom(ASKER, SHARED)}
    assert room == {QuotaMetric.REQUESTS: (2, 0), QuotaMetric.GENERATED_TOKENS: (300, 293)}


# ---- budgets


async def test_a_budget_is_used_up_and_then_refuses_for_good(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 2 * NUM_PROMPT + 7)
    await world.answer(7, max_tokens=7)
    refused = await begin(world, max_tokens=7)
    assert (refused.code, refused.reason, refused.retry_after_s) == (Code.PAYMENT_REQUIRED, "QUOTA_EXCEEDED", None)
    assert "ask for fewer max_tokens" in refused.message
    assert await world.stored_tokens() == NUM_PROMPT + 7
    assert await world.holds() == []


async def test_requests_under_way_never_use_more_than_there_is_together(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 10 * (NUM_PROMPT + 5))

    async def ask() -> Code | None:
        try:
            await world.answer(5, max_tokens=5)
        except HearthError as error:
            return error.code
        return None

    outcomes = await asyncio.gather(*(ask() for _ in range(100)))
    assert outcomes.count(None) == 10
    assert await world.stored_tokens() == 10 * (NUM_PROMPT + 5)


async def test_what_others_under_way_may_use_comes_back(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 150)
    async with world.request(max_tokens=100) as meter:
        refused = await begin(world, max_tokens=100)
        assert refused.code is Code.RATE_LIMITED
        assert refused.retry_after_s is not None
        await meter.add([finish(5)])
    await world.answer(100, max_tokens=100)


async def test_the_hold_is_on_the_disk_before_the_work_begins(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 1000)
    async with world.request(max_tokens=20):
        (hold,) = await world.holds()
        assert hold.user == USER
        assert hold.counts == counts(20, num_requests=0)
    await world.admission.flush()
    assert await world.holds() == []


async def test_the_store_never_holds_less_than_the_client_was_sent(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 100_000)
    async with world.request(max_tokens=500) as meter:
        sent = 0
        await meter.add([tokens(0)])
        for count in (1, COVERED_AHEAD - 1, 1, 100):
            await meter.add([more(count)])
            sent += count
            (hold,) = await world.holds()
            assert sent <= hold.counts.num_completion_tokens <= sent + COVERED_AHEAD
            assert hold.counts.num_prompt_tokens == NUM_PROMPT
        await meter.add([finish(sent)])
        assert await world.holds() == []
        assert await world.stored_tokens() == NUM_PROMPT + sent


async def test_an_abort_is_charged_for_what_was_generated(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 1000)
    async with world.request() as meter:
        await meter.add([tokens(3)])
    await world.admission.flush()
    assert await world.stored() == [(USER, counts(3))]
    assert await world.holds() == []


async def test_a_request_that_got_nothing_costs_nothing(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 1000)
    with pytest.raises(ConnectionError):
        async with world.request():
            raise ConnectionError
    await world.admission.flush()
    assert (await world.stored(), await world.holds()) == ([], [])
    assert world.spending.held(Subject("acme")).tokens == 0


async def test_a_new_month_has_a_new_budget(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, NUM_PROMPT + 1)
    await world.answer(1, max_tokens=1)
    assert (await begin(world, max_tokens=1)).code is Code.PAYMENT_REQUIRED
    world.wall.advance(31 * 86400.0)
    await world.answer(1, max_tokens=1)


async def test_a_store_that_fails_refuses(world: World, database: Database) -> None:
    await world.limit(QuotaMetric.MONTHLY_TOKENS, 1000)
    database.failed.set()
    assert (await begin(world)).code is Code.UNAVAILABLE
    assert world.spending.held(Subject("acme")).tokens == 0


async def test_money_is_a_budget_where_there_are_prices(build: Callable[[PriceSettings], World]) -> None:
    world = build(TALKATIVE)
    await world.limit(QuotaMetric.MONTHLY_SPEND, 10, KEY)
    await world.answer(4, max_tokens=4)
    refused = await begin(world, max_tokens=5)
    assert refused.code is Code.PAYMENT_REQUIRED
    assert "monthly-spend-usd of accounts/acme/apiKeys/key is 10, of which 5.0 are used" in refused.message
    await world.answer(4, max_tokens=4)


async def test_money_without_prices_any_more_is_refused_not_ignored(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_SPEND, 10)
    assert (await begin(world)).code is Code.UNAVAILABLE


async def test_device_time_is_the_budget_of_who_owns_the_deployment(world: World) -> None:
    await world.limit(QuotaMetric.MONTHLY_ACCELERATOR_SECONDS, 0, account_id="library")
    assert (await begin(world, target=SHARED)).code is Code.PAYMENT_REQUIRED
    await world.answer(1, target=OWN)


# ---- without quotas


async def test_without_a_budget_nothing_is_written_until_the_flush(world: World, database: Database) -> None:
    before = database.num_commits
    async with world.request() as meter:
        await meter.add([tokens(2)])
        await world.admission.flush()
        assert await world.stored_tokens() == NUM_PROMPT + 2
        await meter.add([more(3)])
    await world.answer(9)
    assert database.num_commits == before + 1
    await world.admission.flush()
    assert await world.stored() == [(USER, counts(5 + 9, 2 * NUM_PROMPT, num_requests=2))]


# ---- what is no generation


PICTURES = PriceSettings(token_prices={"default": TokenPrice(audio_minute=1.0, image=1.0)})


async def draw(world: World, request_id: str, num_images: int, num_made: int) -> None:
    demand = Demand(PromptSize(0, 0), num_images=num_images)
    async with world.admission.admitted(ASKER, SHARED, request_id, demand, PieceTally()) as meter:
        for index in range(num_made):
            is_last = index == num_images - 1
            await meter.add(
                [Drawn(request_id=request_id, index=index, data=b"p", used=Used(num_images=1), is_last=is_last)]
            )


async def test_pictures_use_up_a_budget_of_money(build: Callable[[PriceSettings], World]) -> None:
    world = build(PICTURES)
    await world.limit(QuotaMetric.MONTHLY_SPEND, 5)
    await draw(world, "whole", 3, 3)
    refused = await refusal(draw(world, "too-many", 3, 3))
    assert refused.code is Code.PAYMENT_REQUIRED
    assert "ask for less" in refused.message
    await draw(world, "given-up", 2, 1)
    assert world.spending.used(Subject("acme")).cost == 4.0
    await world.journal.flush()
    assert sum(used.num_images for _, used in await world.stored()) == 4


async def test_requests_at_once_hold_what_they_may_cost(build: Callable[[PriceSettings], World]) -> None:
    world = build(PICTURES)
    await world.limit(QuotaMetric.MONTHLY_SPEND, 5)
    demand = Demand(PromptSize(0, 0), audio_ms=180_000)
    async with (
        world.admission.admitted(ASKER, SHARED, "a", Demand(PromptSize(0, 0), num_images=1), PieceTally()),
        world.admission.admitted(ASKER, SHARED, "b", demand, PieceTally()),
    ):
        assert (await refusal(draw(world, "c", 2, 2))).code is Code.RATE_LIMITED
        await draw(world, "d", 1, 0)
    await draw(world, "e", 5, 0)
