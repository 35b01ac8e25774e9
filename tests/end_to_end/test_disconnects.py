"""Clients that leave in every way a socket can, in every phase of a request: nobody else notices, nothing is kept."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.endings import How, caller, read_stream
from tests.end_to_end.invariants import check_invariants, footing, replica_pids
from tests.end_to_end.leaving import Phase, Way, leave
from tests.end_to_end.observation import ask, metric
from tests.end_to_end.scripted import FAKE, script_model
from tests.fakes.fake_worker import FakeModel, Script

NUM_CLIENTS = 60
NUM_RUNNING = 8
"""At the worker; further requests wait in its queue."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path_factory.mktemp("disconnects") / "data", **FAKE) as daemon:
        script_model(daemon, FakeModel(step_ms=10.0, max_num_running=NUM_RUNNING))
        ask(daemon)
        yield daemon


async def test_a_storm_of_clients_that_leave_is_noticed_by_nobody(daemon: DaemonProcess) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    start = footing(daemon)
    (pid,) = replica_pids(daemon)
    log_lines = len(daemon.log().splitlines())
    stays = {"model": EMBER, "messages": [{"role": "user", "content": Script(num_tokens=50).text()}]}
    async with caller(daemon) as session, asyncio.timeout(60):
        staying = [asyncio.create_task(read_stream(session, stays)) for _ in range(4)]
        await asyncio.gather(
            *(leave(daemon, chance.choice(list(Phase)), way) for way in list(Way) * (NUM_CLIENTS // 3))
        )
        assert [ending.how for ending in await asyncio.gather(*staying)] == [How.COMPLETE] * 4
    wait_until(lambda: metric(daemon, "hearth_requests_running") == 0, 20, "the worker to be idle")
    wait_until(lambda: metric(daemon, "hearth_requests_waiting") == 0, 20, "the worker's queue to be empty")
    check_invariants(daemon, start)
    assert replica_pids(daemon) == [pid]
    assert len(daemon.log().splitlines()) - log_lines <= NUM_CLIENTS + 4, "at most a line for each"
    assert "Traceback" not in daemon.log()
