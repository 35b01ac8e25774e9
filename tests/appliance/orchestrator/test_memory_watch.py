import os

import pytest

from appliance.config import GIB
from appliance.orchestrator.ledger import FOREIGN_OWNER, UNRETURNED_OWNER, Ledger
from appliance.orchestrator.memory_watch import OBSERVATION_INTERVAL_S, RECOVERY_INTERVAL_S, MemoryWatch
from tests.fakes.fake_gpus import FakeInventory

OURS, THEIRS, OF_ANOTHER_NAMESPACE = os.getpid(), os.getppid(), 2**30


@pytest.fixture
def inventory() -> FakeInventory:
    return FakeInventory()


@pytest.fixture
def ledger(inventory: FakeInventory) -> Ledger:
    return Ledger(inventory.devices)


async def test_only_living_strangers_count(inventory: FakeInventory, ledger: Ledger) -> None:
    inventory.used["simulated-0"] = {OURS: GIB, THEIRS: 2 * GIB, OF_ANOTHER_NAMESPACE: 4 * GIB}
    await MemoryWatch(inventory, ledger).observe_foreign({OURS}, lambda device_id: 0, now=0.0)
    assert ledger.by_owner("simulated-0") == {FOREIGN_OWNER: 2 * GIB}


async def test_what_was_lent_is_counted_once(inventory: FakeInventory, ledger: Ledger) -> None:
    inventory.used["simulated-0"] = {THEIRS: 5 * GIB}
    watch = MemoryWatch(inventory, ledger)
    await watch.observe_foreign(set(), lambda device_id: 4 * GIB, now=0.0)
    assert ledger.foreign_bytes("simulated-0") == GIB
    await watch.observe_foreign(set(), lambda device_id: 20 * GIB, now=0.0)
    assert ledger.foreign_bytes("simulated-0") == 0


async def test_a_device_that_cannot_be_asked_is_full(inventory: FakeInventory, ledger: Ledger) -> None:
    inventory.is_answering = False
    await MemoryWatch(inventory, ledger).observe_foreign(set(), lambda device_id: 0, now=0.0)
    assert ledger.free_bytes("simulated-0") == 0


async def test_memory_that_was_not_given_back_is_asked_for_again_and_again(
    inventory: FakeInventory, ledger: Ledger
) -> None:
    ledger.reserve("a", ["simulated-0"], 7 * GIB)
    ledger.write_off("a", "simulated-0", THEIRS)
    ledger.release("a")
    inventory.used["simulated-0"] = {THEIRS: 7 * GIB}
    watch = MemoryWatch(inventory, ledger)
    await watch.observe_foreign(set(), lambda device_id: 0, now=0.0)
    assert ledger.by_owner("simulated-0") == {UNRETURNED_OWNER: 7 * GIB}, "and it is not counted twice"

    await watch.recover(now=0.0)
    inventory.is_answering = False
    inventory.used["simulated-0"] = {}
    await watch.recover(now=RECOVERY_INTERVAL_S)
    assert ledger.unreturned(), "a driver that is silent has given nothing back"
    inventory.is_answering = True
    await watch.recover(now=RECOVERY_INTERVAL_S + 1)
    assert ledger.unreturned(), "it is not asked all the time"
    await watch.recover(now=2 * RECOVERY_INTERVAL_S)
    assert ledger.free_bytes("simulated-0") == 80 * GIB


async def test_strangers_are_looked_for_now_and_then(inventory: FakeInventory, ledger: Ledger) -> None:
    watch = MemoryWatch(inventory, ledger)
    assert watch.is_due(now=0.0)
    await watch.observe_foreign(set(), lambda device_id: 0, now=0.0)
    assert not watch.is_due(now=OBSERVATION_INTERVAL_S - 1)
    assert watch.is_due(now=OBSERVATION_INTERVAL_S)
