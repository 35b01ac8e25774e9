from appliance.config import GIB
from appliance.domain import ReplicaState
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.replica import Measurement, Replica
from appliance.orchestrator.views import view_device, view_host, view_replica
from appliance.store.database import Database
from runtime.protocol import Loaded
from tests.appliance.orchestrator.samples import sample_plan, sample_settings, sample_surroundings
from tests.fakes.fake_gpus import FakeInventory, fake_device

LOADED = Loaded(footprint_bytes=700, num_blocks=1, block_size=32, max_context_length=64, load_ms={"weights": 9.0})


def test_a_device_tells_who_holds_it() -> None:
    ledger = Ledger([fake_device()])
    ledger.reserve("a", ["simulated-0"], 3 * GIB)
    ledger.observe_foreign("simulated-0", GIB)
    view = view_device(fake_device(), ledger)
    assert (view.by_owner["a"], view.foreign_bytes, view.free_bytes) == (3 * GIB, GIB, 76 * GIB)


def test_the_host_tells_who_keeps_weights_in_it() -> None:
    ledger = Ledger([fake_device()], host_bytes=8 * GIB)
    ledger.reserve_host("a", GIB)
    view = view_host(ledger)
    assert (view.host_bytes, view.by_owner) == (8 * GIB, {"a": GIB})


async def test_a_replica_tells_what_it_holds_awake_and_asleep(database: Database) -> None:
    inventory = FakeInventory()
    around = sample_surroundings(sample_settings(), database, inventory)
    replica = Replica(sample_plan(reserved_bytes=1000, revision=4), around, lambda replica: None)
    replica.measurement = Measurement(LOADED, load_s=2.5, is_warm=True)
    view = view_replica(replica)
    assert (view.held_bytes, view.host_bytes, view.revision) == (1000, 0, 4)
    assert (view.footprint_bytes, view.load_s, view.is_warm) == (700, 2.5, True)
    assert view.load_ms == {"weights": 9.0}

    replica.state, replica.holds_devices = ReplicaState.ASLEEP, False
    replica.host_bytes, replica.residual_bytes = 600, 50
    view = view_replica(replica)
    assert (view.reserved_bytes, view.held_bytes, view.host_bytes) == (1000, 50, 600)
    assert view.device_ids == ("simulated-0",)
