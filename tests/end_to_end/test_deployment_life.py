"""The life of a deployment as the platform's documents tell it, through the real `fireworks-ai` package.

A daemon of its own with pretend GPUs and scripted workers; only the windows are shorter than anybody would have them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

import pytest
from fireworks import Fireworks, NotFoundError

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.fakes.fake_worker import FakeModel, Script

DEPLOYMENT = "accounts/hearth/deployments/life"
H100: Literal["NVIDIA_H100_80GB"] = "NVIDIA_H100_80GB"
PATIENCE_S = 60.0
SETTINGS = {
    "simulated_gpus": f"2x{H100}",
    "worker_command": f"{sys.executable} -m tests.fakes.fake_worker",
    "min_scale_to_zero_window_s": 1.0,
    "autoscale_interval_s": 0.1,
    "usage_flush_s": 0.2,
    "supervisor_interval_s": 0.1,
}
LONG = Script(num_tokens=100_000).text()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path / "data", **SETTINGS) as daemon:
        for directory in (daemon.data_dir / "models").iterdir():
            FakeModel(load_s=0.1, step_ms=50.0).write(directory)
        yield daemon


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Fireworks]:
    with Fireworks(base_url=daemon.base_url, api_key=daemon.api_key, account_id="hearth", max_retries=0) as client:
        yield client


class Life:
    """What its owner does and sees."""

    def __init__(self, client: Fireworks) -> None:
        self._client = client

    def create(self) -> Any:
        return self._client.deployments.create(
            base_model=EMBER,
            deployment_id="life",
            accelerator_type=H100,
            min_replica_count=0,
            max_replica_count=3,
            autoscaling_policy={
                "scale_up_window": "1s",
                "scale_down_window": "1s",
                "scale_to_zero_window": "3s",
                "load_targets": {"concurrent_requests": 2.0},
            },
        )

    def look(self) -> Any:
        return self._client.deployments.get("life")

    def ask(self, text: str = "What is Hearth?", **fields: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return self._client.chat.completions.create(model=f"{EMBER}#{DEPLOYMENT}", messages=messages, **fields)

    def change(self, **fields: str) -> Any:
        return self._client.deployments.update("life", base_model=EMBER, extra_body=fields)

    def history(self) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.look().scalingHistory
        return found

    def is_gone(self) -> bool:
        try:
            self.look()
        except NotFoundError:
            return True
        return False

    def deleted(self) -> Any:
        """As the list shows it, when it is asked to."""
        (found,) = [each for each in self._client.deployments.list(show_deleted=True) if each.name == DEPLOYMENT]
        return found

    def wait_for(self, is_so: Callable[[Any], bool], what: str) -> None:
        wait_until(lambda: is_so(self.look()), PATIENCE_S, what)


def test_the_life_of_a_deployment(client: Fireworks) -> None:
    life = Life(client)

    # Create, and wait until it serves.
    assert life.create().state == "CREATING"
    life.wait_for(lambda seen: seen.state == "READY" and seen.replica_count == 1, "READY with one replica")
    assert life.ask().choices[0].message.content

    # Six requests at once, two wanted per replica.
    with ExitStack() as streams:
        for _ in range(6):
            stream = streams.enter_context(closing(life.ask(LONG, stream=True, max_tokens=100_000)))
            next(iter(stream))
        life.wait_for(lambda seen: seen.replica_count == 3, "three replicas under load")

    # Fewer when the load is gone, none after silence; it stays READY all the while.
    life.wait_for(lambda seen: seen.desired_replica_count == 0 and seen.replica_count == 0, "no replica after silence")
    assert life.look().state == "READY"
    history = life.history()
    assert (history[0]["fromReplicaCount"], history[0]["toReplicaCount"]) == (1, 0)
    assert history[0]["reason"] == "no request for 3 s"
    (up,) = [decision["reason"] for decision in history if decision["toReplicaCount"] == 3]
    assert "requests at once, 2 wanted per replica" in up

    # The next request wakes it.
    assert life.ask().choices[0].message.content
    assert "a request came" in [decision["reason"] for decision in life.history() if decision["fromReplicaCount"] == 0]

    # Nobody uses it: it deletes itself, and can be had back.
    life.change(unusedAutoDeleteDuration="4s")
    wait_until(life.is_gone, PATIENCE_S, "deleted after disuse")
    assert (life.deleted().state, life.deleted().purge_time is not None) == ("DELETED", True)
    assert client.deployments.undelete("life", body={}).state == "READY"
    life.change(unusedAutoDeleteDuration="168h")
    assert life.ask().choices[0].message.content

    # Its owner deletes it.
    client.deployments.delete("life")
    wait_until(life.is_gone, PATIENCE_S, "deleted")
    assert life.deleted().state == "DELETED"
    with pytest.raises(NotFoundError):
        life.ask()
