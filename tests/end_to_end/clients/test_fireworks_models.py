"""Models through the real `fireworks` package, from their first byte to their last, with a daemon that is killed
in the middle."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import fireworks
import httpx
import pytest
from fireworks import Fireworks

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.fakes.tiny_llm import build_tiny_model

PART = 5_000_001
"""More than the daemon collects before it writes."""


def client_of(daemon: DaemonProcess) -> Fireworks:
    return Fireworks(api_key=daemon.api_key, base_url=daemon.base_url, account_id="hearth", max_retries=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "checkpoint", "llama")


def read_files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def upload_urls(client: Fireworks, model_id: str, files: dict[str, bytes]) -> dict[str, str]:
    sizes = {name: str(len(content)) for name, content in files.items()}
    endpoint = client.models.get_upload_endpoint(model_id, filename_to_size=sizes, enable_resumable_upload=True)
    assert endpoint.filename_to_signed_urls is not None
    return endpoint.filename_to_signed_urls


def test_a_models_whole_life(daemon: DaemonProcess, checkpoint: Path) -> None:
    files = read_files(checkpoint)
    with client_of(daemon) as client:
        created = client.models.create(model_id="flow-11", model={"kind": "HF_BASE_MODEL", "display_name": "Eleven"})
        assert created.state == "UPLOADING"
        for name, url in upload_urls(client, "flow-11", files).items():
            answer = httpx.put(url, content=files[name])
            assert (answer.status_code, answer.json()["sha256"]) == (200, hashlib.sha256(files[name]).hexdigest())
        assert client.models.validate_upload("flow-11").warnings == []
        ready = client.models.get("flow-11")
        assert (ready.state, ready.supports_lora, ready.use_hf_apply_chat_template) == ("READY", True, True)

        changed = client.models.update(
            "flow-11",
            display_name="Twelve",
            context_length=128,
            deprecation_date={"year": 2030, "month": 1},
            hugging_face_url="https://huggingface.co/poets/small",
            conversation_config={"style": "jinja", "system": "Be brief."},
        )
        assert (changed.display_name, changed.context_length) == ("Twelve", 128)
        assert changed.conversation_config is not None
        assert changed.conversation_config.system == "Be brief."
        again = client.models.get("flow-11")
        assert again.deprecation_date is not None
        assert (again.deprecation_date.year, again.deprecation_date.month) == (2030, 1)
        client.models.prepare("flow-11", precision="FP16")
        with pytest.raises(fireworks.BadRequestError, match="FP4"):
            client.models.prepare("flow-11", precision="FP4")

        found = client.models.list(filter='state=READY AND display_name="Twelve"')
        assert [model.name for model in found] == ["accounts/hearth/models/flow-11"]

        urls = client.models.get_download_endpoint("flow-11").filename_to_signed_urls
        assert urls is not None
        config = files.pop("config.json")
        answer = httpx.get(urls["config.json"], headers={"Range": "bytes=5-9"})
        assert (answer.status_code, answer.content) == (206, config[5:10])
        assert {name: httpx.get(urls[name]).content for name in files} == files
        client.models.delete("flow-11")
        with pytest.raises(fireworks.NotFoundError):
            client.models.get("flow-11")
        assert httpx.get(urls["config.json"]).status_code == 404


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path / "data") as daemon:
        yield daemon


def test_an_upload_goes_on_after_the_daemon_was_killed_in_its_middle(mortal: DaemonProcess) -> None:
    content = os.urandom(4 * PART)
    with client_of(mortal) as client:
        client.models.create(model_id="broken", model={"kind": "HF_BASE_MODEL"})
        url = upload_urls(client, "broken", {"model.safetensors": content})["model.safetensors"]
    headers = {"Content-Range": f"bytes 0-{PART - 1}/{len(content)}"}
    first = httpx.put(url, content=content[:PART], headers=headers)
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{PART - 1}")

    def killing() -> Iterator[bytes]:
        yield content[PART : 2 * PART]
        uploads = mortal.data_dir / "uploads"
        wait_until(lambda: sum(file.stat().st_size for file in uploads.iterdir()) > PART, 30.0, "more is on the disk")
        mortal.kill()
        yield content[2 * PART :]

    headers = {
        "Content-Range": f"bytes {PART}-{len(content) - 1}/{len(content)}",
        "Content-Length": str(len(content) - PART),
    }
    with pytest.raises(httpx.HTTPError):
        httpx.put(url, content=killing(), headers=headers)

    mortal.start()
    with client_of(mortal) as client:
        url = upload_urls(client, "broken", {"model.safetensors": content})["model.safetensors"]
    asked = httpx.put(url, headers={"Content-Range": f"bytes */{len(content)}"})
    assert asked.status_code == 308
    start = int(asked.headers["Range"].rpartition("-")[2]) + 1
    assert start >= PART
    wrong = httpx.put(url, content=b"x", headers={"Content-Range": f"bytes {start + 1}-{start + 1}/{len(content)}"})
    assert wrong.status_code == 400
    assert f"byte {start} of" in wrong.text
    rest = httpx.put(
        url, content=content[start:], headers={"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    )
    assert (rest.status_code, rest.json()["sha256"]) == (200, hashlib.sha256(content).hexdigest())
