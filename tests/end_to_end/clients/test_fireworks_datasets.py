"""The `fireworks-ai` package, 1.x: datasets, in one request, in shards to signed URLs, and back."""

import json
from collections.abc import Iterator
from pathlib import Path

import fireworks
import httpx
import pytest
from fireworks import Fireworks
from fireworks.lib.dataset_upload import DatasetUploadError, count_dataset_examples, upload_dataset_shards

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
LINE = json.dumps(CHAT).encode() + b"\n"


def connected(daemon: DaemonProcess) -> Fireworks:
    return Fireworks(base_url=daemon.base_url, api_key=daemon.api_key, account_id="hearth", max_retries=0)


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Fireworks]:
    with connected(daemon) as client:
        yield client


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"part-{number}.jsonl").write_bytes(LINE * number)
    return folder


def put(client: Fireworks, dataset_id: str, files: list[Path]) -> None:
    """As the package's own helper does it."""
    sizes = {file.name: str(file.stat().st_size) for file in files}
    urls = client.datasets.get_upload_endpoint(dataset_id, filename_to_size=sizes).filename_to_signed_urls
    assert urls is not None
    for file in files:
        size = sizes[file.name]
        headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{size},{size}"}
        assert httpx.put(urls[file.name], content=file.read_bytes(), headers=headers).status_code == 200


def test_a_dataset_is_uploaded_in_one_request_or_to_signed_urls_and_fetched(client: Fireworks, shards: Path) -> None:
    client.datasets.create(dataset_id="flow-16", dataset={"user_uploaded": {}, "format": "CHAT"})
    client.datasets.upload("flow-16", file=shards / "part-2.jsonl")
    ready = client.datasets.get("flow-16")
    assert (ready.state, ready.example_count) == ("READY", "2")

    count = str(count_dataset_examples(str(shards)))
    client.datasets.create(dataset_id="flow-16-shards", dataset={"user_uploaded": {}, "example_count": count})
    put(client, "flow-16-shards", sorted(shards.iterdir()))
    client.datasets.validate_upload("flow-16-shards", body={})
    ready = client.datasets.get("flow-16-shards")
    assert (ready.state, ready.example_count, ready.format) == ("READY", count, "CHAT")

    urls = client.datasets.get_download_endpoint("flow-16-shards").filename_to_signed_urls
    assert urls is not None
    for name, url in urls.items():
        with httpx.stream("GET", url) as response:
            assert response.headers["content-disposition"].startswith("attachment")
            assert response.read() == (shards / name).read_bytes()
    for dataset_id in ("flow-16", "flow-16-shards"):
        client.datasets.delete(dataset_id)


def test_the_packages_helper_for_shards_wants_tls(client: Fireworks, shards: Path) -> None:
    """It refuses URLs that are not https, whatever the server does; behind a proxy with TLS they are."""
    client.datasets.create(dataset_id="flow-17", dataset={"user_uploaded": {}})
    with pytest.raises(DatasetUploadError, match="non-https"):
        upload_dataset_shards(client, "flow-17", str(shards))
    assert client.datasets.get("flow-17").state == "UPLOADING"
    client.datasets.delete("flow-17")


def test_an_upload_that_the_daemon_did_not_survive_goes_on(tmp_path: Path, shards: Path) -> None:
    first, second = sorted(shards.iterdir())
    sizes = {file.name: str(file.stat().st_size) for file in (first, second)}
    with running_daemon(tmp_path / "data") as daemon:
        with connected(daemon) as client:
            client.datasets.create(dataset_id="broken", dataset={"user_uploaded": {}})
            urls = client.datasets.get_upload_endpoint("broken", filename_to_size=sizes).filename_to_signed_urls
        assert urls is not None
        assert httpx.put(urls[first.name], content=first.read_bytes()).status_code == 200

        def killing() -> Iterator[bytes]:
            yield LINE
            daemon.kill()
            yield LINE

        with pytest.raises(httpx.HTTPError):
            httpx.put(urls[second.name], content=killing(), headers={"Content-Length": sizes[second.name]})
        daemon.spawn()
        wait_until(daemon.is_announced, 60, "ready again")

        with connected(daemon) as client:
            with pytest.raises(fireworks.BadRequestError, match=f"{second.name} has not arrived"):
                client.datasets.validate_upload("broken", body={})
            # Signed before the crash, and still good: only the port is another one.
            url = httpx.URL(urls[second.name]).copy_with(port=httpx.URL(daemon.base_url).port)
            assert httpx.put(url, content=second.read_bytes()).status_code == 200
            client.datasets.validate_upload("broken", body={})
            ready = client.datasets.get("broken")
            assert (ready.state, ready.example_count) == ("READY", "3")
