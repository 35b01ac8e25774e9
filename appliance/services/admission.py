"""Whether a request may begin, by all quotas of its key, its user and its account: all of them, or it takes nothing.

What is reserved beforehand is set right by what a worker counts.
- Rates: no minute holds more requests than allowed. A prompt counts as its likely length and an answer as the longest
  allowed until they are known; one that alone exceeds the limit takes the whole of it.
- Budgets: a request begins when all that it may use fits beside what is used and what others under way may use. That
  is on the disk before the work begins, and what was used before the end of the answer goes out. After a crash nothing
  of it is lost; a request that died with the daemon counts for what it was sent, and at most `COVERED_AHEAD` tokens
  and its prompt's estimate more. Only a prompt longer than its estimate, of a strange template, can exceed a budget.
- Without a budget nothing waits for the disk, and a crash loses what the last `metering_interval_s` used.
A store that fails refuses; it never lets through.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, NamedTuple

from appliance.domain import Principal, QuotaMetric, TokenUser
from appliance.errors import Code, HearthError
from appliance.services.demands import Demand
from appliance.services.metering import Held, Plain
from appliance.services.prices import Prices
from appliance.services.quota_errors import budget_error, quota_error
from appliance.services.quotas import Limit, Quotas
from appliance.services.rate_limits import Taken
from appliance.services.spending import Amounts, Spending, Subject, subjects_of
from appliance.services.tally import ItemT, Tally
from appliance.services.targets import Target
from appliance.services.usage_journal import UsageJournal

OF_TOKENS = (QuotaMetric.MONTHLY_TOKENS, QuotaMetric.MONTHLY_SPEND)
"""Budgets that requests use up."""
HELD_RETRY_AFTER_S = 1.0
"""When requests under way hold what is left of a budget."""


class Headroom(NamedTuple):
    """Of a rate, where it is tightest, once the request has begun."""

    metric: QuotaMetric
    limit: int
    remaining: int


class TakenRate(NamedTuple):
    limit: Limit
    taken: Taken
    amount: int


class Meter(Generic[ItemT]):
    """What one request uses, as it comes."""

    def __init__(
        self, tally: Tally[ItemT], account: Plain | Held, rates: list[TakenRate], clock: Callable[[], float]
    ) -> None:
        self._tally = tally
        self._account = account
        self._rates = rates
        self._clock = clock

    async def add(self, items: list[ItemT]) -> None:
        """Before they go out."""
        self._tally.add(items)
        if self._rates and self._tally.knows_prompts:
            self._set_right(QuotaMetric.PROMPT_TOKENS, self._tally.num_prompt_tokens)
        await self._account.note(self._tally)

    def collect(self) -> None:
        """Now and then."""
        self._account.collect(self._tally)

    def end(self) -> None:
        self._set_right(QuotaMetric.PROMPT_TOKENS, self._tally.num_prompt_tokens)
        self._set_right(QuotaMetric.GENERATED_TOKENS, self._tally.num_completion_tokens)
        self._account.end(self._tally)

    def _set_right(self, metric: QuotaMetric, amount: int) -> None:
        for position, (limit, taken, reserved) in enumerate(self._rates):
            if limit.metric is metric and limit.window is not None and amount != reserved:
                limit.window.correct(taken, amount - reserved, self._clock())
                self._rates[position] = TakenRate(limit, taken, amount)


class Admission:
    def __init__(
        self,
        quotas: Quotas,
        spending: Spending,
        prices: Prices,
        journal: UsageJournal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quotas = quotas
        self._spending = spending
        self._prices = prices
        self._journal = journal
        self._clock = clock
        self._meters: set[Meter[Any]] = set()

    def headroom(self, principal: Principal, target: Target) -> list[Headroom]:
        """For the headers of an answer; promises nothing."""
        found: dict[QuotaMetric, Headroom] = {}
        for limit in self._limits(principal, target):
            if limit.window is not None:
                used = limit.window.amount(self._clock())
                metric = _shown_as(limit.metric)
                taken = 1 if metric is QuotaMetric.REQUESTS else 0
                room = Headroom(metric, limit.limit, max(0, limit.limit - used - taken))
                found[metric] = min(found.get(metric, room), room, key=lambda each: each.remaining)
        return list(found.values())

    @asynccontextmanager
    async def admitted(
        self, principal: Principal, target: Target, request_id: str, demand: Demand, tally: Tally[ItemT]
    ) -> AsyncIterator["Meter[ItemT]"]:
        """Raises `rate_limited`, or `payment_required` for a budget that is used up."""
        limits = self._limits(principal, target)
        user = _token_user(principal, target)
        account: Plain | Held = Plain(self._journal, self._spending, user)
        rates: list[TakenRate] = []
        if limits:
            amounts = Amounts(demand.most.num_tokens, 0.0, self._prices.token_cost(user, demand.most))
            self._check(limits, demand, amounts)
            rates = self._take(limits, demand)
            if any(limit.metric in OF_TOKENS for limit in limits):
                account = Held(self._journal, self._spending, user, request_id, demand.most, amounts)
        meter = Meter(tally, account, rates, self._clock)
        self._meters.add(meter)
        try:
            if isinstance(account, Held):
                await account.open()
            yield meter
        finally:
            self._meters.discard(meter)
            meter.end()

    async def flush(self) -> None:
        """Write what was used until now; also for a backup, and at the end."""
        for meter in self._meters:
            meter.collect()
        await self._journal.flush()

    # ---- all or nothing: between the check and the taking nobody else comes

    def _check(self, limits: Sequence[Limit], demand: Demand, amounts: Amounts) -> None:
        for limit in limits:
            if limit.window is None:
                self._check_budget(limit, amounts, "fewer max_tokens" if demand.num_generated else "less")
        now = self._clock()
        waits = [_wait_s(limit, demand, now) for limit in limits]
        wait_s = max(waits, default=0.0)
        if wait_s > 0:
            limit = limits[waits.index(wait_s)]
            used = limit.window.amount(now) if limit.window is not None else 0
            wish = f"try again in {wait_s:.1f} s"
            raise quota_error(Code.RATE_LIMITED, *limit[:3], used, wish, retry_after_s=wait_s)

    def _check_budget(self, limit: Limit, amounts: Amounts, advice: str) -> None:
        subject, metric = limit.subject, limit.metric
        if metric is QuotaMetric.MONTHLY_SPEND and self._prices.is_empty:
            message = f"the quota {metric} of {subject} cannot be counted: the box has no price table any more"
            raise HearthError(Code.UNAVAILABLE, message)
        used, wanted = self._spending.used(subject).of(metric), amounts.of(metric)
        if used >= limit.limit or used + wanted > limit.limit:
            wish = "" if used >= limit.limit else f"this request may use {_readable(wanted)}: ask for {advice}"
            raise budget_error(subject, metric, limit.limit, used, wish)
        if used + self._spending.held(subject).of(metric) + wanted > limit.limit:
            wish = "requests under way may use the rest"
            raise quota_error(
                Code.RATE_LIMITED, subject, metric, limit.limit, used, wish, retry_after_s=HELD_RETRY_AFTER_S
            )

    def _take(self, limits: Sequence[Limit], demand: Demand) -> list[TakenRate]:
        now = self._clock()
        amounts = [(limit, limit.window, demand.of_rate(limit.metric, limit.limit)) for limit in limits]
        return [TakenRate(limit, window.take(amount, now), amount) for limit, window, amount in amounts if window]

    def _limits(self, principal: Principal, target: Target) -> list[Limit]:
        subjects = subjects_of(principal)
        owner = Subject(target.deployment.account_id)
        if owner not in subjects:
            subjects.append(owner)
        return [
            limit
            for subject in subjects
            for limit in self._quotas.limits_of(subject)
            if _is_met(limit, principal, target)
        ]


def _wait_s(limit: Limit, demand: Demand, now: float) -> float:
    return (
        0.0
        if limit.window is None
        else limit.window.wait_s(demand.of_rate(limit.metric, limit.limit), limit.limit, now)
    )


def _is_met(limit: Limit, principal: Principal, target: Target) -> bool:
    """Device time is the deployment's owner's, all else is of who asks."""
    match limit.metric:
        case QuotaMetric.MONTHLY_ACCELERATOR_SECONDS:
            return limit.subject.account_id == target.deployment.account_id
        case QuotaMetric.SERVERLESS_REQUESTS if not target.deployment.is_serverless:
            return False
    return limit.subject.account_id == principal.account_id


def _shown_as(metric: QuotaMetric) -> QuotaMetric:
    """Clients know one limit of requests."""
    return QuotaMetric.REQUESTS if metric is QuotaMetric.SERVERLESS_REQUESTS else metric


def _token_user(principal: Principal, target: Target) -> TokenUser:
    return TokenUser(
        account_id=principal.account_id,
        user_id=principal.user_id,
        key_id=principal.key_id,
        deployment=target.deployment.name,
        model=target.model.name,
    )


def _readable(amount: float) -> str:
    return f"{round(amount, 2):,}"
