"""How a request's tokens become usage; more of it through `Admission`, in test_admission.py."""

import pytest

from appliance.config import PriceSettings
from appliance.domain import TokenCounts
from appliance.services.metering import COVERED_AHEAD, Held, Plain
from appliance.services.spending import Amounts, Subject
from appliance.services.tally import Tally
from appliance.store.database import Database
from tests.appliance.services.accounting_world import NUM_PROMPT, USER, World, counts, finish, more, tokens
from tests.fakes.fake_clock import FakeClock

MOST = TokenCounts(num_prompt_tokens=4 * NUM_PROMPT, num_completion_tokens=1000)


@pytest.fixture
def world(database: Database, clock: FakeClock) -> World:
    return World(database, clock, PriceSettings())


def held(world: World) -> Held:
    return Held(world.journal, world.spending, USER, "r", MOST, Amounts(tokens=MOST.num_tokens))


async def test_plain_usage_is_collected_once(world: World) -> None:
    plain, tally = Plain(world.journal, world.spending, USER), Tally(1, 1)
    tally.add([tokens(2)])
    for _ in range(3):
        plain.collect(tally)
    tally.add([more(1)])
    plain.end(tally)
    await world.journal.flush()
    assert await world.stored() == [(USER, counts(3))]
    assert world.spending.used(Subject("acme")).tokens == NUM_PROMPT + 3


async def test_a_short_answer_costs_the_disk_one_write_before_and_one_after(world: World) -> None:
    account, tally = held(world), Tally(1, 1)
    before = world.database.num_commits
    await account.open()
    for delta in (tokens(1), *[more(1)] * (COVERED_AHEAD - 1)):
        tally.add([delta])
        await account.note(tally)
    assert world.database.num_commits == before + 1
    tally.add([finish(COVERED_AHEAD)])
    await account.note(tally)
    account.end(tally)
    assert world.database.num_commits == before + 2
    await world.journal.flush()
    assert await world.stored() == [(USER, counts(COVERED_AHEAD))]


async def test_what_was_thought_of_a_prompt_gives_way_to_what_was_counted(world: World) -> None:
    account, tally = held(world), Tally(1, 1)
    await account.open()
    tally.add([tokens(1)])
    await account.note(tally)
    (hold,) = await world.holds()
    assert hold.counts.num_prompt_tokens == 4 * NUM_PROMPT
    account.collect(tally)
    await world.journal.flush()
    (hold,) = await world.holds()
    assert hold.counts == counts(COVERED_AHEAD, num_requests=0)


async def test_a_prompt_longer_than_thought_is_on_the_disk_before_its_answer_goes_out(world: World) -> None:
    account, tally = held(world), Tally(1, 1)
    await account.open()
    longer = tokens(1)
    tally.add([type(longer)(request_id="r", token_ids=[0], num_prompt_tokens=9 * NUM_PROMPT)])
    await account.note(tally)
    (hold,) = await world.holds()
    assert hold.counts.num_prompt_tokens == 9 * NUM_PROMPT


async def test_ending_twice_counts_once(world: World) -> None:
    account, tally = held(world), Tally(1, 1)
    await account.open()
    tally.add([tokens(1)])
    account.end(tally)
    account.end(tally)
    await world.journal.flush()
    assert await world.stored() == [(USER, counts(1))]
    assert world.spending.held(Subject("acme")) == Amounts()
