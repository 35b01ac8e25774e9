from msgspec.structs import replace

from appliance.domain import Account, Operation, OperationState
from appliance.store import accounts, operations
from appliance.store.database import Database


def operation(account_id: str, operation_id: str, created_at: float, state: OperationState) -> Operation:
    return Operation(
        account_id=account_id,
        id=operation_id,
        model=f"accounts/{account_id}/models/m",
        source="a folder",
        state=state,
        created_by="ada",
        created_at=created_at,
        updated_at=created_at,
    )


async def test_operations_come_back_as_they_were_the_newest_first(database: Database) -> None:
    running = operation("acme", "running", 2.0, OperationState.RUNNING)
    old = operation("acme", "old", 1.0, OperationState.DONE)
    theirs = operation("globex", "theirs", 3.0, OperationState.RUNNING)
    failed = replace(running, state=OperationState.FAILED, error_code="invalid", error_message="no", num_bytes=7)
    async with database.transaction() as tx:
        for account_id in ("acme", "globex"):
            await accounts.insert(tx, Account(id=account_id, created_at=0.0, updated_at=0.0))
        for each in (old, running, theirs):
            await operations.insert(tx, each)
    async with database.reader() as db:
        assert await operations.list_in_account(db, "acme") == [running, old]
        assert await operations.list_in_state(db, OperationState.RUNNING) == [running, theirs]
    async with database.transaction() as tx:
        await operations.update(tx, failed)
    async with database.reader() as db:
        assert await operations.get(db, "acme", "running") == failed
        assert await operations.get(db, "globex", "running") is None


async def test_the_oldest_that_have_ended_are_forgotten(database: Database) -> None:
    async with database.transaction() as tx:
        await accounts.insert(tx, Account(id="acme", created_at=0.0, updated_at=0.0))
        await operations.insert(tx, operation("acme", "long", 0.0, OperationState.RUNNING))
        for number in range(5):
            await operations.insert(tx, operation("acme", f"o{number}", float(number + 1), OperationState.DONE))
        await operations.forget_old(tx, "acme", 2)
    async with database.reader() as db:
        assert [each.id for each in await operations.list_in_account(db, "acme")] == ["o4", "o3", "long"]
