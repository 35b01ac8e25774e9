"""The parts together, from the start of a daemon to its end."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.config import Config, IdentitySettings, UsageSettings
from appliance.domain import BudgetHold, QuotaMetric, Role
from appliance.services.accounting import Accounting
from appliance.services.demands import demand_of
from appliance.services.generation import Generation
from appliance.services.quotas import QuotaAsk
from appliance.services.spending import Subject
from appliance.services.tally import DeltaTally
from appliance.services.ticks import Ticks
from appliance.services.usage_journal import UsageJournal
from appliance.store import accounts, budget_holds, token_usage
from appliance.store.database import Database
from runtime.protocol import Submit
from runtime.submission import TokenPrompt
from tests.appliance.services.accounting_world import ASKER, NUM_PROMPT, SHARED, USER, counts, more, tokens
from tests.appliance.services.samples import account, principal
from tests.waiting import until

ACME = Subject("acme")
ADMIN = principal(user_id="root", role=Role.ADMIN)


@pytest.fixture
def config(settings: IdentitySettings) -> Config:
    return Config(data_dir=Path("nowhere"), identity=settings, usage=UsageSettings(metering_interval_s=0.02))


@pytest.fixture
async def real_time_database(tmp_path: Path) -> AsyncIterator[Database]:
    """Its months are those of the services."""
    opened = await Database.open(tmp_path / "hearth.db", bytes(32))
    async with opened.transaction() as tx:
        await accounts.insert(tx, account("acme"))
    yield opened
    await opened.close()


def accounting(database: Database, config: Config) -> Accounting:
    return Accounting(config, database, [], list)


async def used(accounting: Accounting) -> float | None:
    return (await accounting.quotas.get(ADMIN, ACME, QuotaMetric.MONTHLY_TOKENS)).usage


async def test_what_the_last_daemon_left_counts_from_the_start(real_time_database: Database, config: Config) -> None:
    journal = UsageJournal(real_time_database, kept_days=1)
    journal.add_tokens({USER: counts(5)})
    await journal.flush()
    await journal.open(BudgetHold(id="dead", user=USER, counts=counts(7)))
    started = accounting(real_time_database, config)
    await started.restore()
    assert await used(started) == counts(5).num_tokens + counts(7).num_tokens
    async with real_time_database.reader() as db:
        assert await budget_holds.list_all(db) == []


async def test_quotas_hold_again_after_a_restart(real_time_database: Database, config: Config) -> None:
    first = accounting(real_time_database, config)
    await first.quotas.update(ADMIN, ACME, QuotaMetric.REQUESTS, QuotaAsk(value=5))
    again = accounting(real_time_database, config)
    await again.restore()
    assert [limit.limit for limit in again.quotas.limits_of(ACME)] == [5]


async def test_ticks_write_what_was_used(real_time_database: Database, config: Config) -> None:
    started = accounting(real_time_database, config)
    ticks = Ticks()
    started.join(ticks)
    await ticks.start()
    prompt = TokenPrompt(token_ids=[1] * NUM_PROMPT)
    generation = Generation(request_id="r", model="poet", prompts=[prompt])
    demand = demand_of(generation, [Submit(request_id="r-0", prompt=prompt)], SHARED)
    async with started.admission.admitted(ASKER, SHARED, "r", demand, DeltaTally(1, 1)) as meter:
        before = real_time_database.num_commits
        await meter.add([tokens(5)])
        await until(lambda: real_time_database.num_commits > before)
        await meter.add([more(2)])
    await ticks.close()
    await started.close()
    async with real_time_database.reader() as db:
        assert dict(await token_usage.sum_since(db, 0.0)) == {USER: counts(7)}
