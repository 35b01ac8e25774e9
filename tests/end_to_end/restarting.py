"""Daemons that cannot start, and daemons killed while a file arrives; shared by the suite and the benchmark."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.end_to_end.daemon_process import DaemonProcess, wait_until

FILE, NUM_BYTES = "mine.safetensors", 24 << 20
MODELS = "/v1/accounts/hearth/models"


def serve(data_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One that is expected to end by itself."""
    command = [sys.executable, "-m", "appliance", "serve", "--data-dir", str(data_dir), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def create_model(daemon: DaemonProcess, model_id: str) -> str:
    """One that waits for its files; returns its path."""
    with daemon.client() as client:
        body = {"model": {"kind": "HF_BASE_MODEL"}, "modelId": model_id}
        created = client.post(MODELS, json=body)
        assert created.status_code == 200, created.text
    return f"{MODELS}/{model_id}"


def upload(daemon: DaemonProcess, model: str) -> None:
    answer = httpx.put(upload_url(daemon, model), content=bytes(NUM_BYTES), timeout=60)
    assert answer.status_code == 200, answer.text


def kill_while_a_file_arrives(daemon: DaemonProcess, model: str, last_byte: int) -> None:
    """kill -9 after so many bytes, then start again: the file is there whole or not at all, and nothing else is."""
    url = upload_url(daemon, model)
    try:
        httpx.put(url, content=_until_killed(daemon, last_byte), headers={"Content-Length": str(NUM_BYTES)})
    except httpx.HTTPError:
        pass  # the connection broke, or the answer came first
    daemon.spawn()
    wait_until(daemon.is_announced, 30, "ready again")
    assert list((daemon.data_dir / "uploads").iterdir()) == []
    visible = list((daemon.data_dir / "models").rglob(FILE))
    assert [file.stat().st_size for file in visible] in ([], [NUM_BYTES]), "whole, or not there"


def upload_url(daemon: DaemonProcess, model: str) -> str:
    with daemon.client() as client:
        answer = client.post(f"{model}:getUploadEndpoint", json={"filenameToSize": {FILE: NUM_BYTES}})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["filenameToSignedUrls"][FILE])


def _until_killed(daemon: DaemonProcess, last_byte: int) -> Iterator[bytes]:
    yield bytes(last_byte)
    daemon.kill()
    yield bytes(NUM_BYTES - last_byte)
