"""How a request's tokens become usage; more of it through `Admission`, in test_admission.py."""

import pytest

from appliance.config import PriceSettings
from appliance.domain import TokenCounts
from appliance.services.metering import COVERED_AHEAD, COVERED_AHEAD_MS, Held, Plain
from appliance.services.spending import Amounts, Subject
from appliance.services.tally import DeltaTally, PieceTally
from appliance.store.database import Database
from runtime.message import Used
from runtime.tasks.images import Drawn
from runtime.tasks.speech import Transcribed
from tests.appliance.services.accounting_world import NUM_PROMPT, USER, World, counts, finish, more, tokens
from tests.fakes.fake_clock import FakeClock

MOST = TokenCounts(num_prompt_tokens=4 * NUM_PROMPT, num_completion_tokens=1000)


@pytest.fixture
def world(database: Database, clock: FakeClock) -> World:
    return World(database, clock, PriceSettings())


def held(world: World, most: TokenCounts = MOST) -> Held:
    return Held(world.journal, world.spending, USER, "r", most, Amounts(tokens=most.num_tokens))


async def test_plain_usage_is_collected_once(world: World) -> None:
    plain, tally = Plain(world.journal, world.spending, USER), DeltaTally(1, 1)
    tally.add([tokens(2)])
    for _ in range(3):
        plain.collect(tally)
    tally.add([more(1)])
    plain.end(tally)
    await world.journal.flush()
    assert await world.stored() == [(USER, counts(3))]
    assert world.spending.used(Subject("acme")).tokens == NUM_PROMPT + 3


async def test_a_short_answer_costs_the_disk_one_write_before_and_one_after(world: World) -> None:
    account, tally = held(world), DeltaTally(1, 1)
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
    account, tally = held(world), DeltaTally(1, 1)
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
    account, tally = held(world), DeltaTally(1, 1)
    await account.open()
    longer = tokens(1)
    tally.add([type(longer)(request_id="r", token_ids=[0], num_prompt_tokens=9 * NUM_PROMPT)])
    await account.note(tally)
    (hold,) = await world.holds()
    assert hold.counts.num_prompt_tokens == 9 * NUM_PROMPT


async def test_ending_twice_counts_once(world: World) -> None:
    account, tally = held(world), DeltaTally(1, 1)
    await account.open()
    tally.add([tokens(1)])
    account.end(tally)
    account.end(tally)
    await world.journal.flush()
    assert await world.stored() == [(USER, counts(1))]
    assert world.spending.held(Subject("acme")) == Amounts()


def heard(audio_ms: int, is_last: bool = False) -> Transcribed:
    return Transcribed(request_id="r", used=Used(audio_ms=audio_ms), is_last=is_last)


async def test_sound_is_covered_ahead_and_settled_as_it_was(world: World) -> None:
    account, tally = held(world, TokenCounts(audio_ms=600_000)), PieceTally()
    before = world.database.num_commits
    await account.open()
    for _ in range(COVERED_AHEAD_MS // 5000):
        tally.add([heard(5000)])
        await account.note(tally)
    assert world.database.num_commits == before + 1
    tally.add([heard(5000)])
    await account.note(tally)
    (hold,) = await world.holds()
    assert hold.counts.audio_ms == 2 * COVERED_AHEAD_MS + 5000
    tally.add([heard(1234, is_last=True)])
    await account.note(tally)
    ((_, stored),) = await world.stored()
    assert stored == TokenCounts(num_requests=1, audio_ms=COVERED_AHEAD_MS + 5000 + 1234)


async def test_each_picture_is_on_the_disk_before_it_goes_out(world: World) -> None:
    account, tally = held(world, TokenCounts(num_images=3)), PieceTally()
    await account.open()
    for number in range(1, 3):
        tally.add([Drawn(request_id="r", index=number, data=b"p", used=Used(num_images=1))])
        await account.note(tally)
        (hold,) = await world.holds()
        assert hold.counts.num_images == number
    account.end(tally)
    await world.journal.flush()
    ((_, stored),) = await world.stored()
    assert stored == TokenCounts(num_requests=1, num_images=2)


async def test_more_sound_than_thought_is_on_the_disk_all_the_same(world: World) -> None:
    account, tally = held(world), PieceTally()
    await account.open()
    tally.add([heard(7000)])
    await account.note(tally)
    (hold,) = await world.holds()
    assert hold.counts.audio_ms == 7000
