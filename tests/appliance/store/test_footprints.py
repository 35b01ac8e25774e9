from msgspec.structs import replace

from appliance.store import footprints
from appliance.store.database import Database
from tests.appliance.store.samples import FOOTPRINT


async def test_a_newer_measurement_takes_the_place_of_an_older_one(database: Database) -> None:
    newer = replace(FOOTPRINT, num_bytes=1, kv_bytes=2, load_s=3.0, warm_load_s=None, measured_at=4.0)
    other = replace(FOOTPRINT, key="other")
    async with database.transaction() as tx:
        for footprint in (FOOTPRINT, other, newer):
            await footprints.put(tx, footprint)
    async with database.reader() as db:
        assert await footprints.list_all(db) == [newer, other]


async def test_what_was_not_measured_again_is_forgotten(database: Database) -> None:
    newer = replace(FOOTPRINT, key="newer", measured_at=FOOTPRINT.measured_at + 1)
    async with database.transaction() as tx:
        await footprints.put(tx, FOOTPRINT)
        await footprints.put(tx, newer)
        await footprints.delete_before(tx, newer.measured_at)
    async with database.reader() as db:
        assert await footprints.list_all(db) == [newer]
