import pytest

from appliance.config import GIB
from appliance.orchestrator.ledger import FOREIGN_OWNER, Ledger, Overcommitted
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
