"""Engines of different kinds on one pretend GPU: side by side where there is room, by turns where there is not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.invariants import check_invariants, fleet, replica_pids
from tests.end_to_end.observation import ask
from tests.fakes.tiny_diffusion import build_tiny_sdxl
from tests.fakes.tiny_embedder import build_tiny_embedder

CHAT = "accounts/hearth/deployments/chat"
TEXTS = ["the hearth keeps the house warm", "snow"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_tiny_embedder(folder / "embedder", "bert")
    build_tiny_sdxl(folder / "painter")
    return folder


def hearth(daemon: DaemonProcess, *arguments: str) -> None:
    environment = {**os.environ, "HEARTH_BASE_URL": daemon.base_url, "HEARTH_API_KEY": daemon.api_key}
    command = [sys.executable, "-m", "appliance", *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def daemon(tmp_path: Path, folders: Path, request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    """Its one device is what the test names."""
    with running_daemon(
        tmp_path / "data", simulated_gpus=f"1x{request.param}", min_residency_s=0, cold_start_wait_s=60
    ) as daemon:
        for model in ("embedder", "painter"):
            hearth(daemon, "create", "model", model, str(folders / model))
        for model, deployment in ((EMBER, "chat"), ("embedder", "embedder"), ("painter", "painter")):
            hearth(daemon, "create", "deployment", model, "--deployment-id", deployment)
        yield daemon
        check_invariants(daemon)


def embed(daemon: DaemonProcess) -> list[list[float]]:
    with daemon.client() as client:
        answer = client.post("/v1/embeddings", json={"model": "embedder", "input": TEXTS})
        assert answer.status_code == 200, answer.text
        return [entry["embedding"] for entry in answer.json()["data"]]


def paint(daemon: DaemonProcess) -> str:
    with daemon.client() as client:
        body = {"model": "painter", "prompt": "a house", "size": "64x64", "response_format": "b64_json", "seed": 3}
        answer = client.post("/v1/images/generations", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"][0]["b64_json"])


def is_asleep(daemon: DaemonProcess, deployment: str) -> bool:
    replicas = [each for each in fleet(daemon).get("replicas", []) if f"/{deployment}/" in each["name"]]
    return bool(replicas) and all(each["state"] == "ASLEEP" for each in replicas)


@pytest.mark.slow
@pytest.mark.parametrize("daemon", ["NVIDIA_ROOMY_80GB"], indirect=True)
def test_three_kinds_answer_side_by_side(daemon: DaemonProcess) -> None:
    assert embed(daemon) == embed(daemon)
    assert paint(daemon) == paint(daemon)
    assert "Hearth" in ask(daemon, model=CHAT)
    assert len(replica_pids(daemon)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("daemon", ["NVIDIA_TINY_2GB"], indirect=True)
def test_two_kinds_take_turns_and_answer_as_before(daemon: DaemonProcess) -> None:
    vectors = embed(daemon)
    assert "Hearth" in ask(daemon, model=CHAT)
    wait_until(partial(is_asleep, daemon, "embedder"), 30, "the embedder asleep while the other serves")
    assert embed(daemon) == vectors
    wait_until(partial(is_asleep, daemon, "chat"), 30, "the chat model asleep in its turn")
