"""What an account has at once, counted where it grows."""

import pytest

from appliance.domain import AcceleratorUser, Quota, QuotaMetric
from appliance.errors import Code, HearthError
from appliance.services.levels import LEVELS, require_device_time, require_room
from appliance.store import accelerator_usage, quotas
from appliance.store.database import Database
from tests.appliance.services.samples import deployment, model, put
from tests.fakes.fake_clock import FakeClock

BASE = model("library", "poet")


async def limit(database: Database, metric: QuotaMetric, value: int | None, max_value: int | None = None) -> None:
    async with database.transaction() as tx:
        await quotas.put(tx, Quota(account_id="acme", metric=metric, value=value, max_value=max_value, updated_at=1.0))


async def make_room(database: Database, metric: QuotaMetric, wanted: int) -> None:
    async with database.transaction() as tx:
        await require_room(tx, "acme", metric, wanted)


async def test_without_a_quota_there_is_room_for_everything(database: Database) -> None:
    await make_room(database, QuotaMetric.REPLICAS, 10**9)


@pytest.mark.parametrize(("value", "max_value"), [(3, None), (None, 3), (5, 3)])
async def test_more_than_the_tighter_limit_is_refused(
    database: Database, value: int | None, max_value: int | None
) -> None:
    await limit(database, QuotaMetric.REPLICAS, value, max_value)
    await put(database, BASE, deployment("acme", "one", BASE.name, max_replica_count=2))
    await make_room(database, QuotaMetric.REPLICAS, 1)
    with pytest.raises(HearthError) as caught:
        await make_room(database, QuotaMetric.REPLICAS, 2)
    assert (caught.value.code, caught.value.reason) == (Code.RATE_LIMITED, "QUOTA_EXCEEDED")
    assert caught.value.message == ("the quota replicas of accounts/acme is 3, of which 2 are used; 2 more are wanted")


async def test_giving_back_is_always_possible(database: Database) -> None:
    await limit(database, QuotaMetric.REPLICAS, 0)
    await make_room(database, QuotaMetric.REPLICAS, 0)
    await make_room(database, QuotaMetric.REPLICAS, -1)


async def test_disk_is_that_of_models_and_datasets(database: Database) -> None:
    await put(database, model("acme", "mine"), model("globex", "theirs"))
    async with database.reader() as db:
        held = await LEVELS[QuotaMetric.DISK_BYTES](db, "acme")
    await limit(database, QuotaMetric.DISK_BYTES, held + 100)
    await make_room(database, QuotaMetric.DISK_BYTES, 100)
    with pytest.raises(HearthError):
        await make_room(database, QuotaMetric.DISK_BYTES, 101)


async def test_device_time_is_the_months(database: Database, clock: FakeClock) -> None:
    await limit(database, QuotaMetric.MONTHLY_ACCELERATOR_SECONDS, 100)
    user = AcceleratorUser(account_id="acme", deployment="d", base_model="m", accelerator_type="CPU")
    async with database.transaction() as tx:
        await accelerator_usage.add(tx, {user: 99.5})
        await require_device_time(tx, "acme")
        await accelerator_usage.add(tx, {user: 0.5})
        with pytest.raises(HearthError) as caught:
            await require_device_time(tx, "acme")
    assert caught.value.code is Code.PAYMENT_REQUIRED
    clock.advance(31 * 86400.0)
    async with database.transaction() as tx:
        await require_device_time(tx, "acme")
