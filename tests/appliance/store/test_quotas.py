from msgspec.structs import replace

from appliance.domain import Quota, QuotaMetric
from appliance.store import accounts, quotas
from appliance.store.database import Database
from tests.appliance.store.samples import ACCOUNT

QUOTA = Quota(
    account_id="acme",
    subject="users/ada",
    metric=QuotaMetric.MONTHLY_TOKENS,
    value=7,
    max_value=2**63 - 1,
    updated_at=1.5,
)


async def test_a_quota_is_read_as_it_was_put(database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.insert(tx, ACCOUNT)
        await quotas.put(tx, replace(QUOTA, value=3))
        await quotas.put(tx, QUOTA)
    async with database.reader() as db:
        assert await quotas.get(db, "acme", "users/ada", QuotaMetric.MONTHLY_TOKENS) == QUOTA
        assert await quotas.get(db, "acme", "", QuotaMetric.MONTHLY_TOKENS) is None
        assert await quotas.list_all(db) == [QUOTA]
