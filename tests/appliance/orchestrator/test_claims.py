import asyncio
from collections.abc import Callable

import pytest

from appliance.config import GIB
from appliance.orchestrator.claims import Claims
from appliance.orchestrator.fleet import ClaimFact, Demand, Priority
from appliance.orchestrator.ledger import Ledger
from tests.fakes.fake_gpus import fake_device

DEMAND = Demand(20 * GIB, None, 1)


class Notes:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def ledger() -> Ledger:
    return Ledger([fake_device()])


@pytest.fixture
def notify() -> Notes:
    return Notes()


@pytest.fixture
def claims(ledger: Ledger, notify: Callable[[], None]) -> Claims:
    return Claims(ledger, notify)


async def test_a_claim_waits_until_it_is_granted(claims: Claims, notify: Notes) -> None:
    claim = claims.add("lease 1", "acme", Priority.LEASE, DEMAND, True, now=5.0)
    assert notify.count == 1
    assert claim.fact() == ClaimFact("lease 1", Priority.LEASE, DEMAND, True, waiting_since=5.0)
    granted = asyncio.create_task(claim.granted())
    claim.grant(("simulated-0",), 20 * GIB)
    assert await granted == ["simulated-0"]
    assert claim.fact().waiting_since is None
    assert claim.fact().device_ids == ("simulated-0",)


async def test_releasing_frees_its_memory_and_says_so_once(claims: Claims, ledger: Ledger, notify: Notes) -> None:
    claim = claims.add("job 1", "acme", Priority.JOB, DEMAND, True, now=0.0)
    ledger.reserve("job 1", ["simulated-0"], 20 * GIB)
    claim.grant(("simulated-0",), 20 * GIB)
    claim.release()
    claim.release()
    assert notify.count == 2
    assert ledger.free_bytes("simulated-0") == 80 * GIB
    assert claims.all() == []


async def test_an_old_claim_cannot_release_a_new_one_of_its_name(claims: Claims, ledger: Ledger) -> None:
    old = claims.add("job 1", "acme", Priority.JOB, DEMAND, True, now=0.0)
    old.release()
    claims.add("job 1", "acme", Priority.JOB, DEMAND, True, now=1.0)
    ledger.reserve("job 1", ["simulated-0"], GIB)
    old.release()
    assert ledger.by_owner("simulated-0") == {"job 1": GIB}


async def test_a_claim_is_asked_back_with_the_reason(claims: Claims) -> None:
    claim = claims.add("job 1", "acme", Priority.JOB, DEMAND, True, now=0.0)
    claim.ask_back("a deployment needs the memory")
    assert claim.asked_back.is_set()
    assert claim.asked_back_reason == "a deployment needs the memory"
    assert claim.fact().is_leaving


async def test_only_leases_count_as_memory_of_strangers(claims: Claims) -> None:
    claims.add("lease 1", "acme", Priority.LEASE, DEMAND, True, now=0.0).grant(("simulated-0",), 3 * GIB)
    claims.add("job 1", "acme", Priority.JOB, DEMAND, True, now=0.0).grant(("simulated-0",), 5 * GIB)
    assert claims.leased_bytes("simulated-0") == 3 * GIB
    assert claims.leased_bytes("simulated-1") == 0
