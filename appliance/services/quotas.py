"""Quotas: who may use how much of what. The only writer of their rows, which it knows by heart.

Rates and budgets are reserved in `admission.py`; levels are counted in `levels.py`.
"""

import builtins
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from appliance.config import IdentitySettings
from appliance.domain import Principal, Quota, Role
from appliance.domain import QuotaMetric as QuotaMetric  # what `require_room` takes
from appliance.errors import Code, HearthError
from appliance.services import audit
from appliance.services.access import keeps_box, not_found
from appliance.services.levels import LEVELS
from appliance.services.levels import require_room as require_room  # for who makes what a level counts
from appliance.services.prices import Prices
from appliance.services.quota_metrics import MEANINGS, Kind, applies
from appliance.services.rate_limits import RateWindow
from appliance.services.spending import Spending, Subject
from appliance.store import accounts, api_keys, quotas, users
from appliance.store.database import Connection, Database


class QuotaAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What is to change; None: no limit."""

    value: int | UnsetType | None = UNSET
    max_value: int | UnsetType | None = UNSET


class Known(NamedTuple):
    """A quota, and how much of it is used; None: not counted, for there is no limit."""

    quota: Quota
    usage: float | None


class Limit(NamedTuple):
    """A quota that is set, where a request meets it."""

    subject: Subject
    metric: QuotaMetric
    limit: int
    window: RateWindow | None
    """Of a rate: what was taken."""


class Quotas:
    def __init__(
        self,
        database: Database,
        settings: IdentitySettings,
        spending: Spending,
        prices: Prices,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._spending = spending
        self._prices = prices
        self._clock = clock
        self._quotas: dict[Subject, dict[QuotaMetric, Quota]] = {}
        self._limits: dict[Subject, tuple[Limit, ...]] = {}
        """Of those that have any."""

    async def restore(self) -> None:
        """Before the first request."""
        async with self._database.reader() as db:
            rows = await quotas.list_all(db)
        for quota in rows:
            self._take_over(quota)

    def limits_of(self, subject: Subject) -> tuple[Limit, ...]:
        """On the way of every request, so no more than a look."""
        return self._limits.get(subject, ())

    # ---- for people

    async def list(self, principal: Principal, subject: Subject) -> builtins.list[Known]:
        """Everything that could be limited, set or not."""
        async with self._database.reader() as db:
            await self._require_subject(db, principal, subject)
            return [await self._known(db, subject, metric) for metric in MEANINGS if applies(metric, subject.path)]

    async def get(self, principal: Principal, subject: Subject, quota_id: str) -> Known:
        metric = _parse_metric(subject, quota_id)
        async with self._database.reader() as db:
            await self._require_subject(db, principal, subject)
            return await self._known(db, subject, metric)

    async def update(self, principal: Principal, subject: Subject, quota_id: str, ask: QuotaAsk) -> Known:
        """The account's administrators choose up to what the box's allow. What runs already goes on."""
        metric = _parse_metric(subject, quota_id)
        async with self._database.transaction() as tx:
            await self._require_subject(tx.connection, principal, subject)
            before = self._quota(subject, metric)
            changed = self._revised(principal, before, ask)
            if changed != before:
                changed = msgspec.structs.replace(changed, updated_at=tx.now)
                await quotas.put(tx, changed)
                fields = [("value", ask.value), ("maxValue", ask.max_value)]
                await audit.record(tx, principal, changed.name, [name for name, said in fields if said is not UNSET])
        self._take_over(changed)
        async with self._database.reader() as db:
            return await self._known(db, subject, metric)

    # ---- within

    def _revised(self, principal: Principal, quota: Quota, ask: QuotaAsk) -> Quota:
        is_keeper = keeps_box(principal, self._settings)
        if not is_keeper and principal.role is not Role.ADMIN:
            raise HearthError(Code.FORBIDDEN, f"only an administrator may change {quota.name}")
        value = quota.value if isinstance(ask.value, UnsetType) else ask.value
        max_value = quota.max_value if isinstance(ask.max_value, UnsetType) else ask.max_value
        if max_value != quota.max_value and not is_keeper:
            message = f"maxValue: only an administrator of this box may change how far {quota.name} goes"
            raise HearthError(Code.FORBIDDEN, message, "maxValue")
        has_asked = not isinstance(ask.value, UnsetType) and value is not None
        if has_asked and value is not None and max_value is not None and value > max_value:
            raise HearthError(Code.INVALID, f"value: {value} is more than its maxValue {max_value}", "value")
        if quota.metric is QuotaMetric.MONTHLY_SPEND and self._prices.is_empty and (value, max_value) != (None, None):
            message = "value: there are no prices to count it by; see the settings token_prices and accelerator_hour_…"
            raise HearthError(Code.INVALID, message, "value")
        return msgspec.structs.replace(quota, value=value, max_value=max_value)

    def _take_over(self, quota: Quota) -> None:
        subject = Subject(quota.account_id, quota.subject)
        known = self._quotas.setdefault(subject, {})
        known[quota.metric] = quota
        windows = {limit.metric: limit.window for limit in self.limits_of(subject)}
        limits = []
        for metric, each in known.items():
            if each.limit is not None and MEANINGS[metric].kind is not Kind.LEVEL:
                is_rate = MEANINGS[metric].kind is Kind.RATE
                window = (windows.get(metric) or RateWindow()) if is_rate else None
                limits.append(Limit(subject, metric, each.limit, window))
        if limits:
            self._limits[subject] = tuple(limits)
        else:
            self._limits.pop(subject, None)

    def _quota(self, subject: Subject, metric: QuotaMetric) -> Quota:
        known = self._quotas.get(subject, {}).get(metric)
        return known or Quota(account_id=subject.account_id, subject=subject.path, metric=metric)

    async def _known(self, db: Connection, subject: Subject, metric: QuotaMetric) -> Known:
        return Known(self._quota(subject, metric), await self._usage(db, subject, metric))

    async def _usage(self, db: Connection, subject: Subject, metric: QuotaMetric) -> float | None:
        match MEANINGS[metric].kind:
            case Kind.LEVEL:
                return await LEVELS[metric](db, subject.account_id)
            case Kind.BUDGET:
                return self._spending.used(subject).of(metric)
            case Kind.RATE:
                windows = [limit.window for limit in self.limits_of(subject) if limit.metric is metric]
                return next((window.amount(self._clock()) for window in windows if window is not None), None)

    async def _require_subject(self, db: Connection, principal: Principal, subject: Subject) -> None:
        """Own account's, or, for who keeps the box, anybody's."""
        account_id, path = subject
        if account_id != principal.account_id and not keeps_box(principal, self._settings):
            raise not_found(f"accounts/{account_id}")
        kind, _, id = path.partition("/")
        match kind:
            case "users":
                is_there = await users.get(db, account_id, id) is not None
            case "apiKeys":
                key = await api_keys.find(db, id)
                is_there = key is not None and key.account_id == account_id
            case _:
                is_there = await accounts.get(db, account_id) is not None
        if not is_there:
            raise not_found(str(subject))


def _parse_metric(subject: Subject, quota_id: str) -> QuotaMetric:
    known = [metric.value for metric in MEANINGS if applies(metric, subject.path)]
    if quota_id not in known:
        message = f"{subject}/quotas/{quota_id[:64]} not found; there are {', '.join(known)}"
        raise HearthError(Code.NOT_FOUND, message, "quota_id")
    return QuotaMetric(quota_id)
