"""Workers that die or hang at the wrong moments, as a caller and an operator see it. The workers are scripted.

`tests/appliance/orchestrator/test_replica.py` has every kind of misbehaviour, `benchmarks/faults.py` the full counts.
"""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.endings import caller, read_stream
from tests.end_to_end.invariants import check_invariants, replica_pids
from tests.end_to_end.observation import metric
from tests.end_to_end.scripted import FAKE, delete, deploy, pid_of, say, script_model, show
from tests.fakes.fake_worker import Act, FakeModel, Script

QUICK = {"backoff_first_s": 0.01, "heartbeat_timeout_s": 2.0}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    directory = tmp_path_factory.mktemp("worker-faults")
    with running_daemon(directory / "data", **FAKE, **QUICK) as daemon:
        yield daemon


@pytest.fixture
def steady(daemon: DaemonProcess) -> Iterator[str]:
    """A deployment whose worker is well."""
    script_model(daemon, FakeModel())
    name = deploy(daemon, "steady")
    pid_of(daemon, name)
    yield name
    delete(daemon, "steady")
    check_invariants(daemon)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (FakeModel(load="exit", exit_status=0, log_lines=["a last word"]), "a last word"),
        (FakeModel(load="exit", exit_status=1, log_lines=["out of luck"]), "out of luck"),
        (FakeModel(load="fail"), "RuntimeError while loading"),
    ],
    ids=["exit 0", "exit 1", "error"],
)
def test_a_crash_loop_in_the_load_ends_in_failed_with_the_last_words(
    daemon: DaemonProcess, model: FakeModel, words: str
) -> None:
    script_model(daemon, model)
    name = deploy(daemon, "loop")
    wait_until(lambda: show(daemon, "loop")["state"] == "FAILED", 60, "FAILED")
    assert words in show(daemon, "loop/terminationMessage")["message"]
    refused = say(daemon, name, Script())
    assert (refused.status_code, refused.headers["x-should-retry"]) == (503, "false")
    assert refused.json()["error"]["code"] == "DEPLOYMENT_FAILED"
    assert words not in refused.text, "what a worker wrote is for operators"
    delete(daemon, "loop")
    check_invariants(daemon)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_ends_while_idle_is_replaced(daemon: DaemonProcess, steady: str, number: signal.Signals) -> None:
    pid = pid_of(daemon, steady)
    psutil.Process(pid).send_signal(number)
    wait_until(lambda: replica_pids(daemon, steady) not in ([], [pid]), 30, "another worker")
    assert say(daemon, steady, Script()).status_code == 200


def test_a_request_whose_worker_dies_before_it_answers_is_answered_by_the_next(
    daemon: DaemonProcess, steady: str
) -> None:
    pid = pid_of(daemon, steady)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(say, daemon, steady, Script(prefill_ms=500.0), "patient")
        wait_until(lambda: metric(daemon, "hearth_requests_running", steady) > 0, 10, "the request to be at the worker")
        psutil.Process(pid).kill()
        assert answer.result().status_code == 200
    assert pid_of(daemon, steady) != pid


@pytest.mark.parametrize("act", [Act.HANG, Act.STAND_STILL])
async def test_a_stream_whose_worker_hangs_ends_with_an_error(daemon: DaemonProcess, steady: str, act: Act) -> None:
    body = {"model": steady, "messages": [{"role": "user", "content": Script(act=act, at=3).text()}]}
    began = time.monotonic()
    async with caller(daemon) as session:
        ending = await read_stream(session, body)
    assert (ending.how, ending.code) == ("error event", "WORKER_LOST")
    assert time.monotonic() - began < QUICK["heartbeat_timeout_s"] + 8.0
    assert say(daemon, steady, Script()).status_code == 200


def test_a_request_that_crashes_every_worker_is_refused_and_the_others_are_answered(
    daemon: DaemonProcess, steady: str
) -> None:
    deadly = partial(say, daemon, steady, Script(act=Act.SEGV), "deadly")
    refused = deadly()
    assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")
    assert refused.json()["error"]["code"] == "POISON"
    pid = pid_of(daemon, steady)
    assert deadly().json()["error"]["code"] == "POISON"
    assert say(daemon, steady, Script()).status_code == 200
    assert pid_of(daemon, steady) == pid, "it reached no worker again"


def test_a_worker_command_that_ends_at_once_fails_the_deployment_and_nothing_else(tmp_path: Path) -> None:
    with running_daemon(
        tmp_path / "data", **{**FAKE, **QUICK, "worker_command": "/bin/false", "crashes_max": 2}
    ) as daemon:
        deploy(daemon, "d")
        wait_until(lambda: show(daemon, "d")["state"] == "FAILED", 60, "FAILED")
        assert httpx.get(daemon.base_url + "/readyz").status_code == 200
        delete(daemon, "d")
        check_invariants(daemon)
