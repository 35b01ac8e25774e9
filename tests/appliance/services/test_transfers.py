import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.services.grants import Grant
from appliance.services.transfers import FILES_MAX, PARTIAL_KEPT_S, Part, Transfers
from appliance.services.uploads import ReceivedFile, Span
from tests.appliance.services.model_world import refusal, stream, token_and_filename
from tests.appliance.services.samples import SIGNING_KEY
from tests.fakes.fake_clock import FakeClock

CONTENT = bytes(range(256)) * 40


class Shelf:
    """A place that takes everything, for as long as it has the folder."""

    takes_folders = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directories = {"d1"}

    async def require(self, grant: Grant) -> None:
        if grant.directory not in self.directories:
            raise HearthError(Code.NOT_FOUND, "gone")

    async def receive(self, grant: Grant, file: ReceivedFile) -> None:
        await self.require(grant)
        (self.directory / grant.directory).mkdir(exist_ok=True)
        file.path.rename(self.directory / grant.directory / grant.filename)

    async def list_directories(self) -> set[str]:
        return self.directories


class World:
    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.uploads_dir = root / "uploads"
        self.shelf = Shelf(root / "shelf")
        for directory in (self.uploads_dir, self.shelf.directory):
            directory.mkdir()
        self.transfers = self.start()

    def start(self) -> Transfers:
        """A new daemon over the same folders."""
        transfers = Transfers(self.uploads_dir, SIGNING_KEY, 10**6, self.clock)
        transfers.register("models", self.shelf)
        return transfers

    def url(self, filename: str = "f", size: int = len(CONTENT), *, is_resumable: bool = True) -> tuple[str, str]:
        urls = self.transfers.upload_urls("models", "acme", "poet", "d1", {filename: size}, "", is_resumable)
        return token_and_filename(urls[filename])

    def at(self, filename: str = "f") -> bytes:
        return (self.shelf.directory / "d1" / filename).read_bytes()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def part(start: int, end: int, total: int = len(CONTENT)) -> Part:
    return Part(Span(start, end), total)


ASK = Part(None, len(CONTENT))


async def test_a_whole_file_lands_in_its_place_with_its_digest(world: World) -> None:
    progress = await world.transfers.receive(*world.url(is_resumable=False), None, stream(CONTENT))
    assert progress == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert world.at() == CONTENT
    assert os.listdir(world.uploads_dir) == []


async def test_parts_go_on_where_the_last_one_ended_under_later_urls_and_later_daemons(world: World) -> None:
    assert await world.transfers.receive(*world.url(), ASK, stream(b"")) == (0, None)
    assert await world.transfers.receive(*world.url(), part(0, 1000), stream(CONTENT[:1000])) == (1000, None)
    world.clock.advance(100.0)
    world.transfers = world.start()
    assert await world.transfers.receive(*world.url(), ASK, stream(b"")) == (1000, None)
    rest = await world.transfers.receive(*world.url(), part(1000, len(CONTENT)), stream(CONTENT[1000:]))
    assert rest.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert world.at() == CONTENT
    # Asked for once more, because the answer was lost:
    assert await world.transfers.receive(*world.url(), ASK, stream(b"")) == rest


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_parts_of_any_size_in_any_order_make_the_file_or_are_refused_with_what_is_expected(
    data: st.DataObject,
) -> None:
    size = data.draw(st.integers(1, 300))
    content = data.draw(st.binary(min_size=size, max_size=size))
    num_tries = data.draw(st.integers(0, 8))

    async def send(world: World) -> None:
        arrived = 0
        for left in reversed(range(num_tries + 1)):
            if arrived == size:
                break
            start = data.draw(st.integers(0, size - 1) | st.just(arrived)) if left else arrived
            end = data.draw(st.integers(start + 1, size)) if left else size
            sending = world.transfers.receive(*world.url("f", size), part(start, end, size), stream(content[start:end]))
            if start != arrived:
                refused = await refusal(sending)
                assert (refused.code, refused.param) == (Code.INVALID, "content-range")
                assert refused.details == {"expectedStart": arrived}
                continue
            assert (await sending).num_bytes == end
            arrived = end
        assert world.at() == content

    with tempfile.TemporaryDirectory() as root:
        asyncio.run(send(World(Path(root))))


async def test_what_a_broken_upload_brought_is_not_sent_again(world: World) -> None:
    sending = world.transfers.receive(*world.url(), None, stream(CONTENT[:777]))
    assert (await refusal(sending)).code is Code.INVALID
    assert await world.transfers.receive(*world.url(), ASK, stream(b"")) == (777, None)
    await world.transfers.receive(*world.url(), part(777, len(CONTENT)), stream(CONTENT[777:]))
    assert world.at() == CONTENT


async def test_without_being_asked_nothing_of_a_broken_upload_is_kept(world: World) -> None:
    url = world.url(is_resumable=False)
    await refusal(world.transfers.receive(*url, None, stream(CONTENT[:777])))
    assert os.listdir(world.uploads_dir) == []
    assert (await refusal(world.transfers.receive(*url, part(0, 5), stream(b"12345")))).param == "content-range"


@pytest.mark.parametrize("wrong", [Part(None, 5), part(0, 5, 6), part(0, len(CONTENT) + 1)])
async def test_a_part_of_another_file_is_refused(world: World, wrong: Part) -> None:
    assert (await refusal(world.transfers.receive(*world.url(), wrong, stream(b"")))).param == "content-range"


async def test_a_second_writer_of_a_file_is_refused_and_the_first_goes_on(world: World) -> None:
    has_begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[:100]
        has_begun.set()
        await may_go_on.wait()
        yield CONTENT[100:]

    first = asyncio.create_task(world.transfers.receive(*world.url(), None, slow()))
    await has_begun.wait()
    for attempt in (None, ASK, part(0, 5)):
        second = world.transfers.receive(*world.url(), attempt, stream(CONTENT))
        assert (await refusal(second)).code is Code.CONFLICT
    other_size = world.transfers.receive(*world.url(size=5), None, stream(b"12345"))
    assert (await refusal(other_size)).code is Code.CONFLICT
    may_go_on.set()
    await first
    assert world.at() == CONTENT


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        ({}, Code.INVALID),
        ({f"f{number}": 1 for number in range(FILES_MAX + 1)}, Code.INVALID),
        ({"../x": 1}, Code.INVALID),
        ({"x": -1}, Code.TOO_LARGE),
        ({"x": 10**6 + 1}, Code.TOO_LARGE),
    ],
)
def test_what_cannot_be_is_refused_when_announced(world: World, sizes: dict[str, int], code: Code) -> None:
    with pytest.raises(HearthError) as caught:
        world.transfers.upload_urls("models", "acme", "poet", "d1", sizes, "")
    assert (caught.value.code, caught.value.param) == (code, "filenameToSize")


async def test_a_download_url_is_good_for_one_file_in_one_direction(world: World) -> None:
    await world.transfers.receive(*world.url(), None, stream(CONTENT))
    urls = world.transfers.download_urls("models", "acme", "poet", "d1", ["f", "lost"], "")
    token, _ = token_and_filename(urls["f"])
    assert (await world.transfers.find_download(token, "f")).read_bytes() == CONTENT
    assert (await refusal(world.transfers.find_download(token, "lost"))).code is Code.FORBIDDEN
    assert (await refusal(world.transfers.receive(token, "f", None, stream(b"")))).code is Code.FORBIDDEN
    upload_token, _ = world.url()
    assert (await refusal(world.transfers.find_download(upload_token, "f"))).code is Code.FORBIDDEN
    assert (await refusal(world.transfers.find_download(*token_and_filename(urls["lost"])))).code is Code.NOT_FOUND
    world.shelf.directories.clear()
    assert (await refusal(world.transfers.find_download(token, "f"))).code is Code.NOT_FOUND


async def test_halves_stay_for_a_day_or_as_long_as_what_they_are_for(world: World) -> None:
    await world.transfers.receive(*world.url(), part(0, 5), stream(CONTENT[:5]))
    (half,) = world.uploads_dir.iterdir()
    world.clock.now = half.stat().st_mtime
    (world.uploads_dir / "stray").write_bytes(b"x")
    (world.uploads_dir / "folder").mkdir()
    await world.transfers.sweep()
    assert len(os.listdir(world.uploads_dir)) == 3
    await world.start().sweep_leftovers()
    assert list(world.uploads_dir.iterdir()) == [half]
    world.clock.advance(PARTIAL_KEPT_S)
    await world.transfers.sweep()
    assert list(world.uploads_dir.iterdir()) == []

    await world.transfers.receive(*world.url(), part(0, 5), stream(CONTENT[:5]))
    world.shelf.directories.clear()
    await world.transfers.sweep()
    assert list(world.uploads_dir.iterdir()) == []


async def test_a_file_that_is_no_longer_wanted_when_it_is_whole_is_removed(world: World) -> None:
    async def while_it_is_deleted() -> AsyncIterator[bytes]:
        yield CONTENT
        world.shelf.directories.clear()

    sending = world.transfers.receive(*world.url(), None, while_it_is_deleted())
    assert (await refusal(sending)).code is Code.NOT_FOUND
    assert os.listdir(world.uploads_dir) == []


async def test_only_a_place_that_takes_folders_gets_files_in_them(world: World) -> None:
    with pytest.raises(HearthError):
        world.url("unet/config.json")
    world.shelf.takes_folders = True
    token, filename = world.url("unet/config.json")
    assert filename == "unet/config.json"
    (world.shelf.directory / "d1" / "unet").mkdir(parents=True)
    await world.transfers.receive(token, filename, part(0, len(CONTENT)), stream(CONTENT))
    assert world.at("unet/config.json") == CONTENT
    (url,) = world.transfers.download_urls("models", "acme", "poet", "d1", ["unet/config.json"], "").values()
    assert (await world.transfers.find_download(*token_and_filename(url))).read_bytes() == CONTENT
    for wrong in ("config.json", "unet/../unet/config.json", "unet/other.json"):
        with pytest.raises(HearthError):
            await world.transfers.find_download(token_and_filename(url)[0], wrong)
