"""What was used, by day and group, and who sees it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from appliance.config import IdentitySettings, PriceSettings, TokenPrice
from appliance.domain import AcceleratorUser, Account, ApiKey, Role, TokenCounts, TokenUser
from appliance.errors import Code
from appliance.services.prices import Prices
from appliance.services.usage import DEVICES, TOKENS, Dimension, Place, Usage, UsageAsk, UsageRow, days
from appliance.store import accelerator_usage, api_keys, token_usage
from appliance.store.database import Database
from tests.appliance.services.accounting_world import MODEL, USER
from tests.appliance.services.deployment_service import refusal
from tests.appliance.services.samples import GUS, HOME_ADMIN, principal, put, user
from tests.fakes.fake_clock import FakeClock

ADMIN = principal(user_id="root", role=Role.ADMIN)
BOB = replace(USER, user_id="bob", key_id="bobs")
OWN = replace(USER, deployment="accounts/acme/deployments/own")
DEVICE = AcceleratorUser(
    account_id="acme", deployment=OWN.deployment, base_model=MODEL.name, accelerator_type="NVIDIA_L4_24GB"
)
PRICES = Prices(
    PriceSettings(token_prices={"default": TokenPrice(prompt=1.0)}, accelerator_hour_prices={"default": 3600.0})
)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
WEEK = UsageAsk(NOON - timedelta(days=3), NOON + timedelta(days=3))


def used(num_prompt: int, num_completion: int = 0) -> TokenCounts:
    return TokenCounts(num_requests=1, num_prompt_tokens=num_prompt, num_completion_tokens=num_completion)


async def nothing_to_flush() -> None:
    pass


@pytest.fixture
def usage(database: Database, settings: IdentitySettings) -> Usage:
    return Usage(database, settings, PRICES, nothing_to_flush)


@pytest.fixture
async def world(database: Database, clock: FakeClock) -> FakeClock:
    await put(
        database,
        Account(id="home", created_at=0.0, updated_at=0.0),
        MODEL,
        replace(user("acme", "ada", Role.USER), email="ada@acme.test"),
    )
    async with database.transaction() as tx:
        key = ApiKey(
            account_id="acme",
            user_id="ada",
            id="key",
            secret_sha256=b"s",
            created_at=0.0,
            annotations={"team": "red"},
        )
        await api_keys.insert(tx, key)
    return clock


async def use(database: Database, clock: FakeClock, at: datetime, who: TokenUser, counts: TokenCounts) -> None:
    clock.now = at.timestamp()
    async with database.transaction() as tx:
        await token_usage.add(tx, {who: counts})


def told(rows: list[UsageRow], *dimensions: Dimension) -> list[tuple[object, ...]]:
    return [
        (
            datetime.fromtimestamp(row.started_at, UTC).day,
            *(row.group[each] for each in dimensions),
            row.counts.num_tokens,
        )
        for row in rows
    ]


async def test_usage_is_summed_by_day_and_group(database: Database, world: FakeClock, usage: Usage) -> None:
    await use(database, world, NOON, USER, used(5, 1))
    await use(database, world, NOON + timedelta(hours=11), USER, used(7))
    await use(database, world, NOON + timedelta(hours=13), USER, used(100))
    await use(database, world, NOON, BOB, used(9))
    ask = WEEK._replace(group_by=[Dimension.USER])
    rows = await usage.list(ADMIN, "acme", ask)
    assert told(rows, Dimension.USER) == [(10, "ada", 13), (10, "bob", 9), (11, "ada", 100)]
    assert rows[0].kind == TOKENS
    assert rows[0].cost == pytest.approx(12e-6)


async def test_days_are_those_of_the_zone(database: Database, world: FakeClock, usage: Usage) -> None:
    await use(database, world, datetime(2026, 3, 10, 22, 45, tzinfo=UTC), USER, used(1))
    await use(database, world, datetime(2026, 3, 10, 23, 0, tzinfo=UTC), USER, used(10))
    ask = WEEK._replace(timezone=ZoneInfo("Europe/Berlin"), group_by=[Dimension.MODEL])
    rows = await usage.list(ADMIN, "acme", ask)
    assert [row.counts.num_tokens for row in rows] == [1, 10]


async def test_own_deployments_and_shared_ones_are_told_apart(
    database: Database, world: FakeClock, usage: Usage
) -> None:
    await use(database, world, NOON, USER, used(5))
    await use(database, world, NOON, OWN, used(7))
    async with database.transaction() as tx:
        await accelerator_usage.add(tx, {DEVICE: 90.0})
    shared = await usage.list(ADMIN, "acme", WEEK._replace(place=Place.SERVERLESS))
    assert [(row.place, row.counts.num_tokens) for row in shared] == [(Place.SERVERLESS, 5)]
    own = await usage.list(ADMIN, "acme", WEEK._replace(place=Place.DEDICATED_DEPLOYMENT))
    assert [(row.kind, row.counts.num_tokens, row.accelerator_seconds, row.cost) for row in own] == [
        (DEVICES, 0, 90.0, pytest.approx(90.0)),
        (TOKENS, 7, 0.0, 0.0),
    ]
    assert len(await usage.list(ADMIN, "acme", WEEK)) == 3


async def test_annotations_of_keys_are_groups_too(database: Database, world: FakeClock, usage: Usage) -> None:
    await use(database, world, NOON, USER, used(5))
    await use(database, world, NOON, BOB, used(9))
    rows = await usage.list(ADMIN, "acme", WEEK._replace(group_by=[Dimension.TEAM]))
    assert told(rows, Dimension.TEAM) == [(10, "", 9), (10, "red", 5)]


async def test_users_see_what_their_own_keys_used(database: Database, world: FakeClock, usage: Usage) -> None:
    await use(database, world, NOON, USER, used(5))
    await use(database, world, NOON, BOB, used(9))
    rows = await usage.list(principal(user_id="bob"), "acme", WEEK)
    assert [row.counts.num_tokens for row in rows] == [9]
    assert len(await usage.list(HOME_ADMIN, "acme", WEEK)) == 2
    assert (await refusal(usage.list(GUS, "acme", WEEK))).code is Code.NOT_FOUND


async def test_a_window_is_widened_to_whole_quarters_of_an_hour(
    database: Database, world: FakeClock, usage: Usage
) -> None:
    await use(database, world, NOON, USER, used(5))
    soon = NOON + timedelta(minutes=10)
    assert len(await usage.list(ADMIN, "acme", UsageAsk(soon, soon + timedelta(minutes=1)))) == 1
    later = NOON + timedelta(minutes=15)
    assert await usage.list(ADMIN, "acme", UsageAsk(later, later + timedelta(minutes=1))) == []


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1), timedelta(days=32)])
async def test_a_window_that_makes_no_sense_is_refused(usage: Usage, length: timedelta) -> None:
    refused = await refusal(usage.list(ADMIN, "acme", UsageAsk(NOON, NOON + length)))
    assert (refused.code, refused.param) == (Code.INVALID, "endTime")


async def test_an_export_names_people_and_sizes(database: Database, world: FakeClock, usage: Usage) -> None:
    await use(database, world, NOON, USER, used(5))
    await use(database, world, NOON, replace(BOB, model="accounts/acme/models/gone"), used(9))
    lines = await usage.export(ADMIN, "acme", WEEK.start, WEEK.end)
    assert [(line.email, line.num_parameters) for line in lines] == [("ada@acme.test", 1000), ("", 0)]


def test_a_day_may_have_23_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    window = UsageAsk(
        datetime(2026, 3, 28, 12, tzinfo=berlin), datetime(2026, 3, 30, 12, tzinfo=berlin), timezone=berlin
    )
    assert [(end - start) / 3600 for start, end in days(window)] == [12, 23, 12]
