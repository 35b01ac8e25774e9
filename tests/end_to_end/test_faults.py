"""What a person with `kill -9` can do to it: workers and daemon die at the worst moments, and nothing is lost."""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.kills import (
    LONG_TALK,
    is_alive,
    kill_daemon_while_it_writes_and_serves,
    stored_keys,
    stream_events,
)
from tests.end_to_end.observation import ask

NUM_KILLS = 4
"""`benchmarks/kills.py` does a hundred, and measures how long the restarts take."""
HEARTBEAT_TIMEOUT_S = 3


@pytest.fixture(scope="module")
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """Not the shared one: its workers are killed here."""
    data_dir = tmp_path_factory.mktemp("faults") / "data"
    with running_daemon(data_dir, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, crashes_max=100) as daemon:
        ask(daemon)
        yield daemon


def worker(daemon: DaemonProcess) -> psutil.Process:
    wait_until(lambda: len(daemon.workers()) == 1, 30, "one worker")
    return daemon.workers()[0]


@pytest.mark.parametrize("num_events", [1, 2, 12], ids=["first event", "first token", "mid-stream"])
def test_a_stream_whose_worker_dies_ends_with_an_error_at_once(own_daemon: DaemonProcess, num_events: int) -> None:
    victim = worker(own_daemon)
    # Another seed each time: a request that was there at two crashes is refused.
    body = {"model": EMBER, "messages": LONG_TALK, "stream": True, "ignore_eos": True, "n": 16, "seed": num_events}
    events = stream_events(own_daemon, body)
    for _ in range(num_events):
        next(events)
    killed_at = time.monotonic()
    victim.kill()
    rest = list(events)
    assert time.monotonic() - killed_at < HEARTBEAT_TIMEOUT_S, "its end itself is noticed, not its silence"
    assert isinstance(rest[-1], dict)
    assert rest[-1]["error"]["code"] == "WORKER_LOST"
    assert "Hearth" in ask(own_daemon), "a new worker serves without help"
    assert worker(own_daemon).pid != victim.pid


def test_an_idle_worker_that_dies_is_replaced(own_daemon: DaemonProcess) -> None:
    victim = worker(own_daemon)
    victim.kill()
    wait_until(lambda: [w.pid for w in own_daemon.workers()] not in ([], [victim.pid]), 30, "a new worker")
    assert "Hearth" in ask(own_daemon)


def test_a_hung_worker_is_replaced(own_daemon: DaemonProcess) -> None:
    victim = worker(own_daemon)
    victim.send_signal(signal.SIGSTOP)
    wait_until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE, 20, "its end")
    assert "Hearth" in ask(own_daemon)


def test_a_worker_that_gets_no_memory_is_replaced_and_requests_are_answered(own_daemon: DaemonProcess) -> None:
    """RLIMIT_AS lets its allocations fail, as those of a full machine do, when it is to load the model or before."""
    victim = worker(own_daemon)
    wait_until(lambda: len(own_daemon.spares()) == 1, 30, "a spare worker")
    [starved] = own_daemon.spares()
    starved.rlimit(psutil.RLIMIT_AS, (1 << 20, 1 << 20))
    victim.kill()
    assert "Hearth" in ask(own_daemon)
    assert worker(own_daemon).pid not in (victim.pid, starved.pid)
    wait_until(lambda: not is_alive(starved), 30, "the end of the starved one")


@pytest.mark.slow
def test_a_killed_daemon_loses_no_acknowledged_row_and_leaves_no_worker(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with running_daemon(tmp_path / "data") as daemon:
        acknowledged: set[str] = set()
        for _ in range(NUM_KILLS):
            acknowledged |= kill_daemon_while_it_writes_and_serves(daemon, moments.uniform(0.05, 3.0)).acknowledged
            assert acknowledged <= stored_keys(daemon)
        assert acknowledged
        assert "Hearth" in ask(daemon)
        assert "Traceback" not in daemon.log()


def test_sigterm_finishes_running_answers_and_exits_zero(tmp_path: Path) -> None:
    with running_daemon(tmp_path / "data") as daemon:
        ask(daemon)
        events = stream_events(daemon, {"model": EMBER, "messages": LONG_TALK, "stream": True, "temperature": 0})
        next(events)
        stopper: list[int] = []
        thread = threading.Thread(target=lambda: stopper.append(daemon.stop()))
        thread.start()
        rest = list(events)
        thread.join()
        assert rest[-1] == "[DONE]"
        assert stopper == [0]
        assert not subprocess.run(["pgrep", "-P", str(daemon.pid)], capture_output=True).stdout
