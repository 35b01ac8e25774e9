import msgspec

from appliance.domain import Reservation
from appliance.store import reservations
from appliance.store.database import Database
from tests.appliance.store.samples import insert_account

RESERVATION = Reservation(
    account_id="acme",
    id="r",
    display_name="Training week",
    description="two of four",
    accelerator_type="NVIDIA_H100_80GB",
    device_ids=["a", "b"],
    starts_at=1.5,
    ends_at=2.5,
    created_by="admin",
    created_at=1.0,
    updated_at=1.0,
)


async def test_a_reservation_comes_back_as_it_was(database: Database) -> None:
    endless = msgspec.structs.replace(RESERVATION, id="s", ends_at=None)
    await insert_account(database)
    async with database.transaction() as tx:
        await reservations.insert(tx, RESERVATION)
        await reservations.insert(tx, endless)
    async with database.reader() as db:
        assert await reservations.get(db, "acme", "r") == RESERVATION
        assert await reservations.get(db, "umbra", "r") is None
        assert await reservations.list_in_account(db, "acme") == [RESERVATION, endless]
        assert await reservations.list_all(db) == [RESERVATION, endless]


async def test_what_may_change_changes_and_the_rest_stays(database: Database) -> None:
    changed = msgspec.structs.replace(RESERVATION, display_name="", description="x", ends_at=None, updated_at=9.0)
    await insert_account(database)
    async with database.transaction() as tx:
        await reservations.insert(tx, RESERVATION)
        await reservations.update(tx, msgspec.structs.replace(changed, device_ids=["c"]))
        assert await reservations.get(tx.connection, "acme", "r") == changed
        await reservations.delete(tx, "acme", "r")
        assert await reservations.list_all(tx.connection) == []
