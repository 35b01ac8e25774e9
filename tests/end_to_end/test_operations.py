"""A box from its backup: written while clients write, restored elsewhere, served by the program as it was installed.

What systemd would do is done here: the unit's own command line, its notifications, SIGHUP and SIGTERM.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx
import pyrage
import pytest

from tests.appliance.operations.notify_socket import NotifySocket, notify_socket
from tests.end_to_end.daemon_process import DaemonProcess, wait_until

ROOT = Path(__file__).parent.parent.parent
WRITERS = 4
WATCHDOG_S = 1.0


def hearth(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *words], capture_output=True, text=True, timeout=120, check=True
    )


class Writer(threading.Thread):
    """A client that creates models, one after the other, and remembers which were acknowledged."""

    def __init__(self, daemon: DaemonProcess, name: str) -> None:
        super().__init__(name=name)
        self.acknowledged: list[str] = []
        self.stopping = threading.Event()
        self._daemon = daemon
        self.start()

    def run(self) -> None:
        with self._daemon.client() as client:
            while not self.stopping.is_set():
                model_id = f"{self.name}-{len(self.acknowledged)}"
                body = {"modelId": model_id, "model": {"kind": "HF_BASE_MODEL"}}
                client.post("/v1/accounts/hearth/models", json=body).raise_for_status()
                self.acknowledged.append(model_id)


class Backup(NamedTuple):
    path: Path
    identity: Path
    acknowledged_before: set[str]
    num_acknowledged_meanwhile: int


@pytest.fixture(scope="module")
def backup(daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    folder = tmp_path_factory.mktemp("backup")
    identity = pyrage.x25519.Identity.generate()
    (folder / "identity").write_text(str(identity))
    writers = [Writer(daemon, f"written-{number}") for number in range(WRITERS)]
    try:
        wait_until(lambda: all(len(writer.acknowledged) >= 5 for writer in writers), 60.0, "clients at work")
        before = {model_id for writer in writers for model_id in writer.acknowledged}
        recipient = str(identity.to_public())
        hearth("backup", str(folder / "b"), "--data-dir", str(daemon.data_dir), "--recipient", recipient)
        num_meanwhile = sum(len(writer.acknowledged) for writer in writers) - len(before)
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
    with daemon.client() as client:
        for model_id in {model_id for writer in writers for model_id in writer.acknowledged}:
            client.delete(f"/v1/accounts/hearth/models/{model_id}").raise_for_status()
    return Backup(folder / "b", folder / "identity", before, num_meanwhile)


@pytest.fixture(scope="module")
def restored(backup: Backup) -> Path:
    data_dir = backup.path.parent / "restored"
    hearth("restore", str(backup.path), "--data-dir", str(data_dir), "--identity", str(backup.identity))
    return data_dir


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's root directory, with Hearth installed in it."""
    root = tmp_path_factory.mktemp("box")
    subprocess.run([ROOT / "scripts" / "install_service", "--root", root], check=True, capture_output=True, timeout=60)
    return root


class InstalledDaemon(DaemonProcess):
    """Started as the unit says, but for the root directory."""

    def __init__(self, box: Path, data_dir: Path) -> None:
        super().__init__(data_dir)
        unit = (box / "etc/systemd/system/hearth.service").read_text()
        command = re.search(r"^ExecStart=(.+)$", unit, re.M)
        assert command is not None
        self.config_file = box / "etc/hearth/hearth.toml"
        self.program = [word.replace("/opt", f"{box}/opt").replace("/etc", f"{box}/etc") for word in command[1].split()]


@pytest.fixture(scope="module")
def service(box: Path, restored: Path) -> Iterator[tuple[InstalledDaemon, NotifySocket]]:
    with notify_socket(None) as listening, pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", listening.address)
        environment.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
        installed = InstalledDaemon(box, restored)
        try:
            yield installed, listening
        finally:
            installed.close()


def test_what_was_acknowledged_before_a_backup_began_is_in_it(backup: Backup, restored: Path) -> None:
    with closing(sqlite3.connect(f"file:{restored / 'hearth.db'}?mode=ro", uri=True)) as db:
        held = {model_id for (model_id,) in db.execute("SELECT id FROM models")}
    assert held >= backup.acknowledged_before
    assert backup.num_acknowledged_meanwhile > 0, "nobody waited for the backup"
    assert "all sound" in hearth("audit", "verify", "--data-dir", str(restored)).stdout


def test_the_installed_program_serves_what_was_restored(
    backup: Backup, service: tuple[InstalledDaemon, NotifySocket]
) -> None:
    installed, listening = service
    installed.start()
    told = listening.read()
    assert {"READY": "1", "STATUS": f"serving at {installed.base_url}"} in told
    with installed.client() as client:
        listed = client.get("/v1/accounts/hearth/models", params={"pageSize": 200}).json()["models"]
        names = {model["name"].rpartition("/")[2] for model in listed}
        assert names & backup.acknowledged_before
        body = {"model": "accounts/fireworks/models/ember-chat", "prompt": "Hello", "max_tokens": 4}
        client.post("/inference/v1/completions", json=body).raise_for_status()
    wait_until(lambda: {"WATCHDOG": "1"} in listening.read(), 30.0, "the watchdog to be fed")


def test_a_hangup_takes_over_what_can_change(service: tuple[InstalledDaemon, NotifySocket]) -> None:
    installed, listening = service
    text = installed.config_file.read_text()
    installed.config_file.write_text(
        text.replace("#n_max = 128", "n_max = 1").replace("#block_size = 32", "block_size = 16")
    )
    listening.read()
    told: list[dict[str, str]] = []

    def has_reloaded() -> bool:
        told.extend(listening.read())
        return any("READY" in message for message in told)

    os.kill(installed.pid, signal.SIGHUP)
    wait_until(has_reloaded, 30.0, "the reload")
    assert any(message.get("RELOADING") == "1" and int(message["MONOTONIC_USEC"]) > 0 for message in told)
    with installed.client() as client:
        body = {"model": "accounts/fireworks/models/ember-chat", "prompt": "Hello", "max_tokens": 1, "n": 2}
        assert client.post("/inference/v1/completions", json=body).status_code == 400
    assert "need a restart: block_size" in installed.log()
    installed.config_file.write_text("nonsense")
    os.kill(installed.pid, signal.SIGHUP)
    wait_until(lambda: "the configuration stays as it was" in installed.log(), 30.0, "the refusal")
    assert httpx.get(f"{installed.base_url}/readyz").status_code == 200


def test_the_doctor_finds_nothing_wrong_with_it(service: tuple[InstalledDaemon, NotifySocket]) -> None:
    installed, _ = service
    words = ("doctor", "--data-dir", str(installed.data_dir), "--base-url", installed.base_url, "-o", "json")
    findings = {finding["check"]: finding["verdict"] for finding in json.loads(hearth(*words).stdout)}
    assert findings["Daemon"] == findings["Database"] == findings["Audit log"] == "ok"


def test_sigterm_is_told_of_and_ends_it_well(service: tuple[InstalledDaemon, NotifySocket]) -> None:
    installed, listening = service
    listening.read()
    assert installed.stop() == 0
    assert any(message.get("STOPPING") == "1" for message in listening.read())
    assert "all sound" in hearth("audit", "verify", "--data-dir", str(installed.data_dir)).stdout
