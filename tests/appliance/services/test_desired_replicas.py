import pytest

from appliance.domain import Deployment, ScalingDecision
from appliance.services.desired_replicas import desire
from appliance.store import deployments, scaling_decisions
from appliance.store.database import Database
from tests.appliance.services.samples import deployment, put
from tests.fakes.fake_clock import FakeClock

FAST = deployment("acme", "fast", "accounts/acme/models/poet", desired_replica_count=1)


async def stored(database: Database) -> tuple[Deployment | None, list[ScalingDecision]]:
    async with database.reader() as db:
        history = await scaling_decisions.list_of_deployment(db, "acme", "fast", 10)
        return await deployments.get(db, "acme", "fast"), history


async def test_the_count_and_its_reason_are_written_together(database: Database, clock: FakeClock) -> None:
    await put(database, FAST)
    async with database.transaction() as tx:
        changed = await desire(tx, FAST, 3, "12 requests at once, 4 wanted per replica", keep=10)
    row, history = await stored(database)
    assert row == changed
    assert changed.desired_replica_count == 3
    assert changed.updated_at == FAST.updated_at
    (decision,) = history
    assert (decision.from_count, decision.to_count, decision.at) == (1, 3, clock.now)
    assert decision.reason == "12 requests at once, 4 wanted per replica"


async def test_the_same_count_is_no_decision(database: Database) -> None:
    await put(database, FAST)
    async with database.transaction() as tx:
        assert await desire(tx, FAST, 1, "nothing new", keep=10) is FAST
    assert await stored(database) == (FAST, [])


async def test_neither_is_written_when_the_transaction_fails(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as tx:
            await desire(tx, FAST, 0, "unused", keep=10)
            raise RuntimeError("something else in the same transaction")

    await put(database, FAST)
    with pytest.raises(RuntimeError):
        await fail()
    assert await stored(database) == (FAST, [])


async def test_only_the_newest_reasons_are_kept(database: Database) -> None:
    await put(database, FAST)
    row = FAST
    for count in (2, 3, 4):
        async with database.transaction() as tx:
            row = await desire(tx, row, count, f"to {count}", keep=2)
    _, history = await stored(database)
    assert [decision.reason for decision in history] == ["to 4", "to 3"]
