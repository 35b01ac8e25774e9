"""The services that admit and meter, over a real store, with clocks that a test moves; and somebody who asks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from appliance.config import IdentitySettings, PriceSettings
from appliance.domain import BudgetHold, Principal, Quota, QuotaMetric, TokenCounts, TokenUser
from appliance.services.admission import Admission, Meter
from appliance.services.demands import demand_of
from appliance.services.generation import Generation
from appliance.services.prices import Prices
from appliance.services.quotas import Quotas
from appliance.services.spending import Spending, month_start
from appliance.services.tally import DeltaTally
from appliance.services.targets import Target
from appliance.services.usage_journal import UsageJournal
from appliance.store import budget_holds, quotas, token_usage
from appliance.store.database import Database
from appliance.store.token_usage import TokenSum
from runtime.protocol import Delta, Submit, Usage
from runtime.submission import TokenPrompt
from tests.appliance.services.samples import deployment, model, principal
from tests.fakes.fake_clock import FakeClock

MODEL = model("library", "poet")
SHARED = Target(deployment("library", "poet", MODEL.name, is_serverless=True), MODEL)
OWN = Target(deployment("acme", "own", MODEL.name), MODEL)
NUM_PROMPT = 10
ASKER = principal()
USER = TokenUser(account_id="acme", user_id="ada", key_id="key", deployment=SHARED.deployment.name, model=MODEL.name)


class World:
    def __init__(self, database: Database, wall: FakeClock, prices: PriceSettings) -> None:
        self.database = database
        self.wall = wall
        self.clock = FakeClock(1000.0)
        self.prices = Prices(prices)
        self.spending = Spending(self.prices, wall)
        self.journal = UsageJournal(database, kept_days=400)
        identity = IdentitySettings(account_id="home", library_account_id="library")
        self.quotas = Quotas(database, identity, self.spending, self.prices, self.clock)
        self.admission = Admission(self.quotas, self.spending, self.prices, self.journal, self.clock)
        self._num_requests = 0

    async def limit(self, metric: QuotaMetric, value: int, subject: str = "", account_id: str = "acme") -> None:
        quota = Quota(account_id=account_id, subject=subject, metric=metric, value=value, updated_at=1.0)
        async with self.database.transaction() as tx:
            await quotas.put(tx, quota)
        await self.quotas.restore()

    @asynccontextmanager
    async def request(
        self, max_tokens: int = 100, who: Principal = ASKER, target: Target = SHARED, num_choices: int = 1
    ) -> AsyncIterator[Meter[Delta]]:
        self._num_requests += 1
        prompt = TokenPrompt(token_ids=[1] * NUM_PROMPT)
        request_id = f"request-{self._num_requests}"
        generation = Generation(request_id=request_id, model="poet", prompts=[prompt], num_choices=num_choices)
        submit = Submit(request_id=f"{request_id}-0", prompt=prompt, max_tokens=max_tokens, num_choices=num_choices)
        async with self.admission.admitted(
            who, target, request_id, demand_of(generation, [submit], target), DeltaTally(1, num_choices)
        ) as meter:
            yield meter

    async def answer(self, num_tokens: int, **asked: object) -> None:
        """A request that is answered in full."""
        async with self.request(**asked) as meter:  # type: ignore[arg-type]
            await meter.add([finish(num_tokens)])

    async def holds(self) -> list[BudgetHold]:
        async with self.database.reader() as db:
            return await budget_holds.list_all(db)

    async def stored(self) -> Sequence[TokenSum]:
        async with self.database.reader() as db:
            return await token_usage.sum_since(db, month_start(self.wall()))

    async def stored_tokens(self) -> int:
        return sum(counts.num_tokens for _, counts in await self.stored())


def tokens(count: int) -> Delta:
    """The first of an answer."""
    return Delta(request_id="r", token_ids=[0] * count, num_prompt_tokens=NUM_PROMPT)


def more(count: int) -> Delta:
    return Delta(request_id="r", token_ids=[0] * count)


def finish(num_tokens: int) -> Delta:
    """An answer of so many tokens ends, after those that came."""
    usage = Usage(num_prompt_tokens=NUM_PROMPT, num_cached_tokens=0, num_completion_tokens=num_tokens)
    return Delta(request_id="r", finish_reason="stop", usage=usage)


def counts(num_completion: int, num_prompt: int = NUM_PROMPT, num_requests: int = 1) -> TokenCounts:
    return TokenCounts(num_requests=num_requests, num_prompt_tokens=num_prompt, num_completion_tokens=num_completion)
