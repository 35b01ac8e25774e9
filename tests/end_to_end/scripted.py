"""A daemon whose workers are scripted (`tests/fakes/fake_worker.py`), and what is done to its deployments over HTTP."""

from typing import Any

import httpx

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, wait_until
from tests.end_to_end.invariants import replica_pids
from tests.fakes.fake_worker import FakeModel, Script

ACCELERATOR = "NVIDIA_H100_80GB"
FAKE: dict[str, object] = {
    "worker_command": "python -m tests.fakes.fake_worker",
    "simulated_gpus": f"2x{ACCELERATOR}",
}
DEPLOYMENTS = "/v1/accounts/hearth/deployments"


def script_model(daemon: DaemonProcess, model: FakeModel) -> None:
    """How workers load the built-in model from now on."""
    for directory in (daemon.data_dir / "models").iterdir():
        model.write(directory)


def deploy(daemon: DaemonProcess, deployment_id: str) -> str:
    body = {"baseModel": EMBER, "minReplicaCount": 1, "acceleratorType": ACCELERATOR}
    with daemon.client() as client:
        answer = client.post(DEPLOYMENTS, params={"deploymentId": deployment_id}, json=body)
        assert answer.status_code == 200, answer.text
    return f"accounts/hearth/deployments/{deployment_id}"


def show(daemon: DaemonProcess, deployment_id: str) -> dict[str, Any]:
    with daemon.client() as client:
        found: dict[str, Any] = client.get(f"{DEPLOYMENTS}/{deployment_id}").json()
        return found


def delete(daemon: DaemonProcess, deployment_id: str) -> None:
    """Waits until its name is free again: the daemon answers at once, and forgets it when its last replica is gone."""
    path = f"{DEPLOYMENTS}/{deployment_id}"
    with daemon.client() as client:
        answer = client.delete(path, params={"ignoreChecks": "true", "hard": "true"})
        assert answer.status_code == 200, answer.text
        wait_until(lambda: client.get(path).status_code == 404, 30, f"no {deployment_id}")


def say(daemon: DaemonProcess, model: str, script: Script, text: str = "") -> httpx.Response:
    messages = [{"role": "system", "content": text}, {"role": "user", "content": script.text()}]
    with daemon.client() as client:
        return client.post("/v1/chat/completions", json={"model": model, "messages": messages})


def pid_of(daemon: DaemonProcess, deployment: str) -> int:
    wait_until(lambda: len(replica_pids(daemon, deployment)) == 1, 30, "one ready replica")
    return replica_pids(daemon, deployment)[0]
