"""Requests for a deployment at zero replicas: what their callers are told while it loads, and that none is forgotten.

The worker is scripted; `tests/appliance/api/data/test_cold_starts.py` has the clients' packages.
"""

import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.invariants import check_invariants, fleet, replica_pids
from tests.end_to_end.scripted import ACCELERATOR, FAKE, script_model
from tests.fakes.fake_worker import FakeModel

DEPLOYMENT = "/v1/accounts/hearth/deployments/cold"
NAME = "accounts/hearth/deployments/cold"
LOAD_S = 1.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    settings: dict[str, object] = {
        **FAKE,
        "host_cache_bytes": 0,  # nothing sleeps: every start is a load
        "forecast_interval_s": 0.2,
    }
    with running_daemon(tmp_path_factory.mktemp("cold") / "data", **settings) as daemon:
        script_model(daemon, FakeModel(load_s=LOAD_S))
        body = {"baseModel": EMBER, "acceleratorType": ACCELERATOR, "maxReplicaCount": 1}
        with daemon.client() as client:
            answer = client.post("/v1/accounts/hearth/deployments", params={"deploymentId": "cold"}, json=body)
            assert answer.status_code == 200, answer.text
        yield daemon


@pytest.fixture(autouse=True)
def cold(daemon: DaemonProcess) -> Iterator[None]:
    scale(daemon, 0)
    wait_until(lambda: not fleet(daemon).get("replicas"), 30, "no replica")
    yield
    check_invariants(daemon)


def scale(daemon: DaemonProcess, count: int) -> None:
    with daemon.client() as client:
        answer = client.patch(f"{DEPLOYMENT}:scale", json={"replicaCount": count})
        assert answer.status_code == 200, answer.text


def ask(daemon: DaemonProcess, wait_s: float | None = None, is_stream: bool = False) -> httpx.Response:
    body = {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "stream": is_stream}
    headers = {} if wait_s is None else {"hearth-cold-start-wait": str(wait_s)}
    with daemon.client() as client:
        return client.post("/v1/chat/completions", json=body, headers=headers)


def test_a_stream_that_waits_is_told_how_far_the_load_is(daemon: DaemonProcess) -> None:
    answer = ask(daemon, is_stream=True)
    comments = [line for line in answer.text.splitlines() if line.startswith(": ")]
    assert comments
    assert comments[0].startswith(": loading ")
    assert "% (weights)" in comments[-1]
    assert answer.text.endswith("data: [DONE]\n\n")


def test_who_does_not_want_to_wait_is_told_when_to_come_back(daemon: DaemonProcess) -> None:
    first = ask(daemon, wait_s=0.0)
    assert first.status_code == 503
    wait_until(lambda: bool(fleet(daemon).get("replicas")), 30, "the load to begin, though its caller has left")
    wait_until(lambda: "percent" in ask(daemon, wait_s=0.0).json()["error"]["cold_start"], 30, "a replica on its way")
    refused = ask(daemon, wait_s=0.0)
    assert refused.json()["error"]["code"] == "DEPLOYMENT_SCALING_UP"
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert "x-should-retry" not in refused.headers
    wait_until(lambda: len(replica_pids(daemon, NAME)) == 1, 30, "the replica ready")
    assert ask(daemon).status_code == 200


def test_requests_that_wait_together_share_one_load_and_survive_a_scale_to_zero(daemon: DaemonProcess) -> None:
    answers: list[httpx.Response] = []
    callers = [threading.Thread(target=lambda: answers.append(ask(daemon))) for _ in range(5)]
    for caller in callers:
        caller.start()
    wait_until(lambda: bool(fleet(daemon).get("replicas")), 30, "the load to begin")
    scale(daemon, 0)
    wait_until(lambda: not replica_pids(daemon, NAME), 30, "no replica ready")
    for caller in callers:
        caller.join()
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len(replica_pids(daemon, NAME)) == 1
