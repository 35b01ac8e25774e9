"""A deployment whose replica lies on two pretend GPUs: it answers like one on a single device, and outlives a loss."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.invariants import check_invariants, fleet, replica_pids
from tests.end_to_end.observation import ask

NAMES = {count: f"accounts/hearth/deployments/on-{count}" for count in (1, 2)}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with running_daemon(
        tmp_path / "data", simulated_gpus="2xNVIDIA_ROOMY_80GB", cold_start_wait_s=60, backoff_first_s=0.01
    ) as daemon:
        yield daemon


def deploy(daemon: DaemonProcess, count: int) -> None:
    with daemon.client() as client:
        body = {"baseModel": EMBER, "acceleratorCount": count, "minReplicaCount": 1}
        answer = client.post(f"/v1/accounts/hearth/deployments?deploymentId=on-{count}", json=body)
        assert answer.status_code == 200, answer.text


def ranks(daemon: DaemonProcess) -> list[psutil.Process]:
    workers = [psutil.Process(pid) for pid in replica_pids(daemon, NAMES[2])]
    return [each for worker in workers for each in worker.children() if "--rank" in " ".join(each.cmdline())]


def has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_a_replica_on_two_devices_answers_as_one_does_and_is_replaced_when_it_loses_a_half(
    daemon: DaemonProcess,
) -> None:
    for count in NAMES:
        deploy(daemon, count)
    expected = ask(daemon, model=NAMES[1])
    assert ask(daemon, model=NAMES[2]) == expected
    (replica,) = [each for each in fleet(daemon)["replicas"] if each["name"].startswith(NAMES[2])]
    assert replica["deviceIds"] == ["simulated-0", "simulated-1"]
    (rank,) = ranks(daemon)
    (worker,) = replica_pids(daemon, NAMES[2])
    rank.kill()
    wait_until(lambda: replica_pids(daemon, NAMES[2]) not in ([], [worker]), 60, "another worker")
    assert ask(daemon, model=NAMES[2]) == expected
    (rank,), (worker,) = ranks(daemon), replica_pids(daemon, NAMES[2])
    psutil.Process(worker).kill()
    wait_until(lambda: has_ended(rank), 20, "a rank ends with its worker")
    assert ask(daemon, model=NAMES[2]) == expected
    check_invariants(daemon)
    (rank,) = ranks(daemon)
    daemon.stop()
    wait_until(lambda: has_ended(rank), 5, "nobody left over")
