import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import ImportSettings
from appliance.errors import Code, HearthError
from appliance.services import import_hub
from appliance.services.import_hub import HubRepository
from appliance.services.uploads import Receiver
from tests.appliance.services.model_world import refusal
from tests.fakes.fake_hub import COMMIT, FakeHub, hub_in_thread

WEIGHTS = bytes(range(256)) * 4000


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"pickle", "onnx.md": b""}
    with hub_in_thread(FakeHub(files)) as hub:
        yield hub


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_hub, "RETRY_AFTER_S", 0.01)


def source(hub: FakeHub, text: str = "poets/small", revision: str = "main") -> HubRepository:
    settings = ImportSettings(allow_hub=True, hub_url=hub.url)
    return HubRepository(text, revision, settings, Receiver())


async def fetch(repository: HubRepository, part: Path, hub: FakeHub | None = None, breaks_after: int = 0) -> int:
    """How many bytes were told of. The hub breaks off once `breaks_after` bytes were."""
    num_told = 0

    def tell(num_bytes: int) -> None:
        nonlocal num_told
        num_told += num_bytes
        if hub is not None and num_told >= breaks_after:
            hub.may_break.set()

    try:
        sizes = await repository.open()
        await repository.fetch("model.safetensors", sizes["model.safetensors"], part, tell)
    finally:
        await repository.close()
    return num_told


async def test_files_of_a_model_come_at_one_commit_and_whole(hub: FakeHub, tmp_path: Path) -> None:
    repository = source(hub)
    assert await fetch(repository, tmp_path / "part") == len(WEIGHTS)
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert repository.identity == f"{hub.url}/poets/small@{COMMIT}"
    again = source(hub)
    assert await again.open() == {"config.json": 2, "model.safetensors": len(WEIGHTS)}
    assert again.is_same("config.json", tmp_path, repository.identity)
    assert not again.is_same("config.json", tmp_path, f"{hub.url}/poets/small@other")
    await again.close()


async def test_what_broke_off_goes_on_where_it_ended(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks_after["model.safetensors"] = 500_000
    hub.may_break.clear()
    assert await fetch(source(hub), tmp_path / "part", hub, breaks_after=500_000) == len(WEIGHTS)
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    ranges = [asked for name, asked in hub.asked]
    assert ranges == ["", "bytes=500000-"]

    (tmp_path / "other").write_bytes(WEIGHTS[:1000])  # by a daemon that was killed
    assert await fetch(source(hub), tmp_path / "other") == len(WEIGHTS)
    assert (hub.asked[-1][1], (tmp_path / "other").read_bytes()) == ("bytes=1000-", WEIGHTS)


async def test_what_is_not_what_the_hub_announced_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    hub.is_corrupt = True
    error = await refusal(fetch(source(hub), tmp_path / "part"))
    assert "model.safetensors" in error.message
    assert not (tmp_path / "part").exists()
    assert hashlib.sha256(WEIGHTS).hexdigest() not in error.message


@pytest.mark.parametrize(("text", "revision"), [("poets/none", "main"), ("poets/small", "v9")])
async def test_what_the_hub_does_not_have_is_said(hub: FakeHub, text: str, revision: str) -> None:
    repository = source(hub, text, revision)
    assert (await refusal(repository.open())).code is Code.FAILED_PRECONDITION
    await repository.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "small",
        "a/b/c",
        "../etc",
        "a/..",
        "a/b?x",
        "https://evil.example/poets/small",
        "file:///etc/passwd",
        "a/b\n",
    ],
)
async def test_what_is_no_repository_of_this_hub_is_refused(hub: FakeHub, text: str) -> None:
    with pytest.raises(HearthError) as caught:
        source(hub, text)
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "huggingFaceUrl")


async def test_its_page_names_it_too_and_revisions_are_names(hub: FakeHub) -> None:
    assert source(hub, f"{hub.url}/poets/small").described == "poets/small at main"
    with pytest.raises(HearthError) as caught:
        source(hub, revision="../../x")
    assert caught.value.param == "revision"


def test_the_operator_decides_whether_there_is_a_hub() -> None:
    with pytest.raises(HearthError, match="allow_hub"):
        HubRepository("poets/small", "main", ImportSettings(), Receiver())


async def test_a_download_is_cancelled_at_once_and_keeps_what_came(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks_after["model.safetensors"] = 1000
    repository = source(hub)
    sizes = await repository.open()
    came = asyncio.Event()
    fetching = asyncio.create_task(
        repository.fetch("model.safetensors", sizes["model.safetensors"], tmp_path / "part", lambda _: came.set())
    )
    await came.wait()
    fetching.cancel()
    await asyncio.wait({fetching})
    await repository.close()
    assert fetching.cancelled()
