"""A box with two pretend GPUs: what fits runs, what does not waits with a reason in numbers, and starts when it can."""

from functools import partial
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.observation import ask

DEVICE = "NVIDIA_TINY_1GB"


def deployment(daemon: DaemonProcess, deployment_id: str) -> dict[str, Any]:
    with daemon.client() as client:
        answer = client.get(f"/v1/accounts/hearth/deployments/{deployment_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def create(daemon: DaemonProcess, deployment_id: str) -> None:
    with daemon.client() as client:
        answer = client.post(
            "/v1/accounts/hearth/deployments",
            params={"deploymentId": deployment_id},
            json={"baseModel": EMBER, "minReplicaCount": 1, "acceleratorType": DEVICE},
        )
        assert answer.status_code == 200, answer.text


def is_ready(daemon: DaemonProcess, deployment_id: str) -> bool:
    return int(deployment(daemon, deployment_id)["replicaStats"]["readyReplicaCount"]) == 1


def test_a_third_deployment_waits_with_numbers_and_starts_when_the_first_is_deleted(tmp_path: Path) -> None:
    # A worker process alone takes more than half of such a device.
    with running_daemon(tmp_path / "data", simulated_gpus=f"2x{DEVICE}") as daemon:
        for deployment_id in ("first", "second"):
            create(daemon, deployment_id)
            wait_until(partial(is_ready, daemon, deployment_id), 60, f"{deployment_id} ready")
        create(daemon, "third")
        wait_until(lambda: "GiB" in deployment(daemon, "third")["status"]["message"], 10, "a reason in numbers")
        message = deployment(daemon, "third")["status"]["message"]
        assert message.count("GiB") >= 3, f"what it needs and what each of the two devices has free: {message}"
        assert "simulated-0" in message
        assert "simulated-1" in message
        with daemon.client() as client:
            gone = client.delete("/v1/accounts/hearth/deployments/first", params={"ignoreChecks": "true"})
            assert gone.status_code == 200, gone.text
        wait_until(lambda: is_ready(daemon, "third"), 60, "the third on the freed device")
        assert "Hearth" in ask(daemon, model="accounts/hearth/deployments/third")
        assert is_ready(daemon, "second")
