import pytest

from appliance.config import GIB
from appliance.orchestrator.gpus import CPU, Device
from appliance.orchestrator.ledger import FOREIGN_OWNER, UNRETURNED_OWNER, Ledger, Overcommitted
from tests.fakes.fake_gpus import fake_device


@pytest.fixture
def ledger() -> Ledger:
    return Ledger([fake_device(0, gigabytes=10), fake_device(1, gigabytes=10)])


def test_it_explains_itself_by_owner(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-0"], 4 * GIB)
    ledger.reserve("b", ["simulated-0", "simulated-1"], 5 * GIB)
    assert ledger.by_owner("simulated-0") == {"a": 4 * GIB, "b": 5 * GIB}
    assert ledger.free() == {"simulated-0": 1 * GIB, "simulated-1": 5 * GIB}


def test_what_does_not_fit_on_every_device_is_reserved_on_none(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-1"], 6 * GIB)
    with pytest.raises(Overcommitted, match="simulated-1"):
        ledger.reserve("b", ["simulated-0", "simulated-1"], 5 * GIB)
    assert ledger.free_bytes("simulated-0") == 10 * GIB


def test_released_memory_is_free_again(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-0"], 10 * GIB)
    ledger.release("a")
    ledger.release("never held any")
    assert ledger.free_bytes("simulated-0") == 10 * GIB


def test_an_owner_reserves_once(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-0"], GIB)
    with pytest.raises(AssertionError, match="already"):
        ledger.reserve("a", ["simulated-1"], GIB)


def test_memory_of_others_is_not_free(ledger: Ledger) -> None:
    ledger.observe_foreign("simulated-0", 3 * GIB)
    assert ledger.free_bytes("simulated-0") == 7 * GIB
    assert ledger.by_owner("simulated-0") == {FOREIGN_OWNER: 3 * GIB}


def test_others_may_take_reserved_memory_but_free_is_never_below_zero(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-0"], 9 * GIB)
    ledger.observe_foreign("simulated-0", 3 * GIB)
    assert ledger.free_bytes("simulated-0") == 0


def test_a_reservation_grows_and_shrinks_where_there_is_room(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-0", "simulated-1"], 2 * GIB)
    ledger.resize("a", 10 * GIB)
    assert ledger.free_bytes("simulated-1") == 0
    ledger.resize("a", GIB)
    ledger.reserve("b", ["simulated-1"], 9 * GIB)
    with pytest.raises(Overcommitted):
        ledger.resize("a", 2 * GIB)
    assert ledger.by_owner("simulated-0") == {"a": GIB}


def test_memory_that_is_not_given_back_stays_taken_until_it_is(ledger: Ledger) -> None:
    ledger.reserve("a", ["simulated-0", "simulated-1"], 4 * GIB)
    ledger.write_off("a", "simulated-0", pid=77)
    ledger.release("a")
    assert ledger.by_owner("simulated-0") == {UNRETURNED_OWNER: 4 * GIB}
    assert ledger.free_bytes("simulated-1") == 10 * GIB
    assert ledger.unreturned() == [("simulated-0", 77)]
    ledger.recover("simulated-0", 77)
    assert ledger.free_bytes("simulated-0") == 10 * GIB


def test_nothing_is_written_off_of_one_who_holds_nothing(ledger: Ledger) -> None:
    ledger.write_off("asleep", "simulated-0", pid=77)
    assert ledger.unreturned() == []


def test_host_memory_has_a_limit_of_its_own() -> None:
    ledger = Ledger([fake_device(gigabytes=10)], host_bytes=4 * GIB)
    ledger.reserve_host("a", 3 * GIB)
    ledger.reserve_host("a", 4 * GIB)
    with pytest.raises(Overcommitted):
        ledger.reserve_host("b", 1)
    assert ledger.host_by_owner() == {"a": 4 * GIB}
    assert ledger.free_bytes("simulated-0") == 10 * GIB
    ledger.release_host("a")
    assert ledger.host_free_bytes() == 4 * GIB


def test_where_the_host_is_the_device_what_is_kept_in_host_memory_counts_there() -> None:
    cpu = Device(id="cpu", index=0, accelerator_type=CPU, memory_bytes=10 * GIB, is_cuda=False)
    ledger = Ledger([cpu], host_bytes=4 * GIB)
    assert ledger.is_host_a_device
    assert ledger.is_host("cpu")
    ledger.reserve_host("weights", 3 * GIB)
    assert ledger.by_owner("cpu") == {"weights": 3 * GIB}
    ledger.reserve("a", ["cpu"], 7 * GIB)
    assert ledger.host_free_bytes() == 0
    with pytest.raises(Overcommitted):
        ledger.reserve_host("weights", 4 * GIB)
