from msgspec.structs import replace

from appliance.domain import BudgetHold, TokenCounts, TokenUser
from appliance.store import budget_holds, token_usage
from appliance.store.database import Connection, Database

USER = TokenUser(account_id="acme", user_id="ada", key_id="k", deployment="d", model="m")
HOLD = BudgetHold(
    id="r",
    user=USER,
    counts=TokenCounts(
        num_prompt_tokens=20, num_cached_tokens=3, num_completion_tokens=400, audio_ms=5000, num_images=2
    ),
)
USED = replace(HOLD.counts, num_requests=1)


async def used(db: Connection) -> dict[TokenUser, TokenCounts]:
    return dict(await token_usage.sum_since(db, 0.0))


async def test_a_hold_becomes_usage_and_only_once(database: Database) -> None:
    async with database.transaction() as tx:
        await budget_holds.put(tx, [HOLD])
        assert await budget_holds.list_all(tx.connection) == [HOLD]
        await budget_holds.settle(tx, ["r"])
        await budget_holds.settle(tx, ["r"])
        assert await budget_holds.list_all(tx.connection) == []
        assert await used(tx.connection) == {USER: USED}


async def test_it_counts_for_what_it_was_last_told(database: Database) -> None:
    told = TokenCounts(num_prompt_tokens=21, num_completion_tokens=5, audio_ms=60_000, num_images=1)
    async with database.transaction() as tx:
        await budget_holds.put(tx, [HOLD, replace(HOLD, id="other")])
        await budget_holds.count(tx, {"r": told, "gone": told})
        await budget_holds.settle(tx, ["r"])
        assert await used(tx.connection) == {USER: replace(told, num_requests=1)}


async def test_all_are_settled_together_with_what_is_there(database: Database) -> None:
    async with database.transaction() as tx:
        await token_usage.add(tx, {USER: USED})
        await budget_holds.put(tx, [HOLD, replace(HOLD, id="other")])
        assert await budget_holds.settle_all(tx) == 2
        assert await used(tx.connection) == {USER: USED.plus(USED).plus(USED)}
        assert await budget_holds.settle_all(tx) == 0


async def test_a_hold_that_is_deleted_was_never_used(database: Database) -> None:
    async with database.transaction() as tx:
        await budget_holds.put(tx, [HOLD])
        await budget_holds.delete(tx, ["r", "gone"])
        assert await used(tx.connection) == {}
