import importlib.metadata

from appliance.orchestrator.measurements import FORGOTTEN_AFTER_S, Measurements, software_version
from appliance.orchestrator.replica import Measurement
from appliance.store import footprints
from appliance.store.database import Database
from runtime.protocol import Loaded
from tests.fakes.fake_clock import FakeClock

LOADED = Loaded(footprint_bytes=900, kv_bytes=300, num_blocks=1, block_size=32, max_context_length=64, load_ms={})


async def test_what_a_load_measured_is_known_to_the_next_daemon(database: Database) -> None:
    measurements = Measurements(database, FakeClock())
    await measurements.read()
    assert measurements.get("key") is None
    await measurements.learn("key", Measurement(LOADED, load_s=8.0, is_warm=False))
    await measurements.learn("key", Measurement(LOADED, load_s=1.5, is_warm=True))

    later = Measurements(database, FakeClock())
    await later.read()
    footprint = later.get("key")
    assert footprint is not None
    assert footprint == measurements.get("key")
    assert (footprint.num_bytes, footprint.kv_bytes, footprint.load_s, footprint.warm_load_s) == (900, 300, 8.0, 1.5)


async def test_what_was_not_seen_for_long_is_forgotten(database: Database) -> None:
    async with database.transaction() as tx:
        now = tx.now
    clock = FakeClock(now - FORGOTTEN_AFTER_S - 10.0)
    await Measurements(database, clock).learn("old", Measurement(LOADED, 1.0, is_warm=False))
    await Measurements(database, FakeClock(now)).learn("new", Measurement(LOADED, 1.0, is_warm=False))
    await Measurements(database, clock).read()
    async with database.reader() as db:
        assert [footprint.key for footprint in await footprints.list_all(db)] == ["new"]


async def test_a_store_that_has_failed_does_not_stop_learning(database: Database) -> None:
    measurements = Measurements(database, FakeClock())
    database.failed.set()
    await measurements.learn("key", Measurement(LOADED, 1.0, is_warm=False))
    database.failed.clear()
    assert measurements.get("key") is not None


def test_a_new_version_of_the_engine_starts_from_estimates() -> None:
    assert importlib.metadata.version("torch") in software_version()
