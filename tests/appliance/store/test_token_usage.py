from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.domain import TokenCounts, TokenUser
from appliance.store import token_usage
from appliance.store.database import Database
from appliance.store.token_usage import BUCKET_S, TokenSum, bucket_at
from tests.appliance.store.samples import NOW

USER = TokenUser(account_id="acme", user_id="ada", key_id="k", deployment="d", model="m")
COUNTS = TokenCounts(
    num_requests=1, num_prompt_tokens=20, num_cached_tokens=3, num_completion_tokens=400, audio_ms=5000, num_images=2
)
HERE = bucket_at(NOW)


async def test_usage_of_the_same_user_adds_up_and_others_stay_apart(database: Database) -> None:
    other = replace(USER, key_id="other")
    for _ in range(2):
        async with database.transaction() as tx:
            await token_usage.add(tx, {USER: COUNTS, other: COUNTS})
    async with database.reader() as db:
        found = dict(await token_usage.sum_between(db, "acme", HERE, HERE + BUCKET_S))
        assert found == {USER: COUNTS.plus(COUNTS), other: COUNTS.plus(COUNTS)}
        assert await token_usage.sum_between(db, "globex", HERE, HERE + BUCKET_S) == []


async def test_a_window_holds_the_quarters_that_begin_in_it(database: Database) -> None:
    async with database.transaction() as tx:
        await token_usage.add(tx, {USER: COUNTS})
    async with database.reader() as db:
        assert await token_usage.sum_between(db, "acme", HERE - BUCKET_S, HERE) == []
        assert await token_usage.sum_between(db, "acme", HERE + 1, HERE + BUCKET_S) == []
        assert await token_usage.sum_since(db, HERE) == [TokenSum(USER, COUNTS)]
        assert await token_usage.sum_since(db, HERE + 1) == []


async def test_what_is_older_than_asked_for_is_deleted(database: Database) -> None:
    async with database.transaction() as tx:
        await token_usage.add(tx, {USER: COUNTS})
        await token_usage.delete_before(tx, HERE)
        assert len(await token_usage.sum_since(tx.connection, 0.0)) == 1
        await token_usage.delete_before(tx, HERE + 1)
        assert await token_usage.sum_since(tx.connection, 0.0) == []


@given(st.floats(0, 4e9))
def test_every_moment_lies_in_its_quarter(now: float) -> None:
    assert bucket_at(now) <= now < bucket_at(now) + BUCKET_S
    assert bucket_at(now) % BUCKET_S == 0
