"""Quotas of what an account has at once, counted from the rows themselves in the transaction that adds to them."""

from collections.abc import Awaitable, Callable

from appliance.domain import QuotaMetric
from appliance.errors import Code
from appliance.services.quota_errors import QUOTA_EXCEEDED, budget_error, quota_error
from appliance.services.spending import Subject, month_start
from appliance.store import accelerator_usage, datasets, deployments, models, quotas
from appliance.store.database import Connection, Transaction


async def require_room(tx: Transaction, account_id: str, metric: QuotaMetric, wanted: int) -> None:
    """Before `wanted` more of it is made in this transaction; raises when that is more than the account may have."""
    quota = await quotas.get(tx.connection, account_id, "", metric)
    limit = None if quota is None else quota.limit
    if limit is None or wanted <= 0:
        return
    usage = await LEVELS[metric](tx.connection, account_id)
    if usage + wanted > limit:
        raise quota_error(
            Code.RATE_LIMITED,
            Subject(account_id),
            metric,
            limit,
            usage,
            f"{wanted:,} more are wanted",
            reason=QUOTA_EXCEEDED,
        )


async def require_device_time(tx: Transaction, account_id: str) -> None:
    """Before more replicas are asked for; raises when the account's device time of the month is used up."""
    metric = QuotaMetric.MONTHLY_ACCELERATOR_SECONDS
    quota = await quotas.get(tx.connection, account_id, "", metric)
    if quota is None or quota.limit is None:
        return
    found = await accelerator_usage.sum_between(tx.connection, account_id, month_start(tx.now), tx.now + 1.0)
    seconds = sum(each.seconds for each in found)
    if seconds >= quota.limit:
        raise budget_error(Subject(account_id), metric, quota.limit, seconds)


async def _disk_bytes(db: Connection, account_id: str) -> int:
    return await models.count_bytes(db, account_id) + await datasets.count_bytes(db, account_id)


LEVELS: dict[QuotaMetric, Callable[[Connection, str], Awaitable[int]]] = {
    QuotaMetric.REPLICAS: deployments.count_replicas,
    QuotaMetric.DISK_BYTES: _disk_bytes,
}
