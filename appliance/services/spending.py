"""What every account, user and key has used of its month, and what requests under way may still use. In memory only.

Months are UTC's. The store has the same, a moment later; `load` takes it over at start.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from appliance.domain import AcceleratorUser, Principal, QuotaMetric, TokenCounts, TokenUser
from appliance.services.prices import Prices
from appliance.store.accelerator_usage import AcceleratorSum
from appliance.store.token_usage import TokenSum

BUDGETS = (QuotaMetric.MONTHLY_TOKENS, QuotaMetric.MONTHLY_ACCELERATOR_SECONDS, QuotaMetric.MONTHLY_SPEND)


class Subject(NamedTuple):
    """Who a quota is about."""

    account_id: str
    path: str = ""
    """`users/ID` or `apiKeys/ID`; empty: the account itself."""

    def __str__(self) -> str:
        return f"accounts/{self.account_id}/{self.path}".removesuffix("/")


class Amounts(NamedTuple):
    """Of all budgets."""

    tokens: int = 0
    accelerator_seconds: float = 0.0
    cost: float = 0.0

    def plus(self, other: "Amounts", sign: int = 1) -> "Amounts":
        return Amounts(
            self.tokens + sign * other.tokens,
            self.accelerator_seconds + sign * other.accelerator_seconds,
            self.cost + sign * other.cost,
        )

    def of(self, metric: QuotaMetric) -> float:
        return self[BUDGETS.index(metric)]


NOTHING = Amounts()


class Spending:
    def __init__(self, prices: Prices, clock: Callable[[], float] = time.time) -> None:
        self._prices = prices
        self._clock = clock
        self._month_ends_at = next_month_start(clock())
        self._used: dict[Subject, Amounts] = {}
        self._held: dict[Subject, Amounts] = {}
        self._num_holds: Counter[Subject] = Counter()

    @property
    def month_started_at(self) -> float:
        return month_start(self._clock())

    def load(self, tokens: Iterable[TokenSum], accelerators: Iterable[AcceleratorSum]) -> None:
        """Of this month."""
        for user, counts in tokens:
            self.add_tokens(user, counts)
        for accelerator_user, seconds in accelerators:
            self.add_accelerators(accelerator_user, seconds)

    def add_tokens(self, user: TokenUser, counts: TokenCounts) -> None:
        amounts = Amounts(tokens=counts.num_tokens, cost=self._prices.token_cost(user, counts))
        for subject in subjects_of(user):
            self._add(subject, amounts)

    def add_accelerators(self, user: AcceleratorUser, seconds: float) -> None:
        cost = self._prices.accelerator_cost(user.accelerator_type, seconds)
        self._add(Subject(user.account_id), Amounts(accelerator_seconds=seconds, cost=cost))

    def used(self, subject: Subject) -> Amounts:
        self._turn_month()
        return self._used.get(subject, NOTHING)

    # ---- requests under way

    def held(self, subject: Subject) -> Amounts:
        return self._held.get(subject, NOTHING)

    def hold(self, user: TokenUser, amounts: Amounts) -> None:
        for subject in subjects_of(user):
            self._held[subject] = self.held(subject).plus(amounts)
            self._num_holds[subject] += 1

    def release(self, user: TokenUser, amounts: Amounts) -> None:
        """What was held; `add_tokens` says what became of it."""
        for subject in subjects_of(user):
            self._held[subject] = self._held[subject].plus(amounts, sign=-1)
            self._num_holds[subject] -= 1
            if not self._num_holds[subject]:  # by number: costs leave fractions behind
                del self._held[subject], self._num_holds[subject]

    def _add(self, subject: Subject, amounts: Amounts) -> None:
        self._turn_month()
        self._used[subject] = self._used.get(subject, NOTHING).plus(amounts)

    def _turn_month(self) -> None:
        now = self._clock()
        if now >= self._month_ends_at:
            self._month_ends_at = next_month_start(now)
            self._used.clear()


def subjects_of(who: TokenUser | Principal) -> list[Subject]:
    """Everybody whose quotas a request counts against."""
    account_id = who.account_id
    return [
        Subject(account_id),
        Subject(account_id, f"users/{who.user_id}"),
        Subject(account_id, f"apiKeys/{who.key_id}"),
    ]


def month_start(now: float) -> float:
    return datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def next_month_start(now: float) -> float:
    first = datetime.fromtimestamp(month_start(now), UTC)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1).timestamp()
