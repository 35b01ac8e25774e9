import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.errors import Code, HearthError
from appliance.services import uploads
from appliance.services.uploads import Receiver, Span


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_file_larger_than_the_buffer_arrives_whole(receiver: Receiver, tmp_path: Path) -> None:
    chunks = [bytes([number]) * 700_001 for number in range(15)]
    content = b"".join(chunks)
    path = tmp_path / "f"
    await receiver.append(path, Span(0, len(content)), stream(*chunks), keeps_broken=False)
    assert path.read_bytes() == content
    assert await receiver.digest(path) == digest(content)
    assert len(content) > 2 * uploads.WRITE_BYTES


async def test_an_empty_file_is_a_file(receiver: Receiver, tmp_path: Path) -> None:
    await receiver.append(tmp_path / "f", Span(0, 0), stream(), keeps_broken=False)
    assert (tmp_path / "f").read_bytes() == b""


@pytest.mark.parametrize("chunks", [[b"12345", b"678901"], [b"12345"], []])
async def test_more_or_fewer_bytes_than_announced_are_refused_and_removed(
    receiver: Receiver, tmp_path: Path, chunks: list[bytes]
) -> None:
    with pytest.raises(HearthError) as caught:
        await receiver.append(tmp_path / "f", Span(0, 10), stream(*chunks), keeps_broken=False)
    assert caught.value.code is Code.INVALID
    assert os.listdir(tmp_path) == []


async def test_a_part_that_is_too_long_leaves_what_was_there_before(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "f"
    await receiver.append(path, Span(0, 5), stream(b"hello"), keeps_broken=True)
    with pytest.raises(HearthError):
        await receiver.append(path, Span(5, 8), stream(b"12", b"345"), keeps_broken=True)
    assert path.read_bytes() == b"hello"
    await receiver.append(path, Span(5, 8), stream(b"123"), keeps_broken=True)
    assert await receiver.digest(path) == digest(b"hello123")


async def test_what_a_broken_stream_brought_is_kept_where_that_is_asked_for(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "f"
    with pytest.raises(HearthError):
        await receiver.append(path, Span(0, 100), stream(b"half", b"way"), keeps_broken=True)
    assert path.read_bytes() == b"halfway"
    later = Receiver()  # another daemon, which has not seen the bytes
    await later.append(path, Span(7, 10), stream(b"!!!"), keeps_broken=True)
    assert await later.digest(path) == digest(b"halfway!!!")


async def test_a_file_begun_anew_has_nothing_of_the_old_one(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "f"
    await receiver.append(path, Span(0, 6), stream(b"before"), keeps_broken=True)
    await receiver.append(path, Span(0, 3), stream(b"now"), keeps_broken=True)
    assert path.read_bytes() == b"now"
    assert await receiver.digest(path) == digest(b"now")


async def test_a_client_that_leaves_leaves_nothing_behind(receiver: Receiver, tmp_path: Path) -> None:
    has_begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * uploads.WRITE_BYTES
            has_begun.set()

    task = asyncio.create_task(receiver.append(tmp_path / "f", Span(0, 2**40), endless(), keeps_broken=False))
    await has_begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert os.listdir(tmp_path) == []


def test_a_file_has_one_writer(receiver: Receiver, tmp_path: Path) -> None:
    first, second = tmp_path / "f", tmp_path / "g"
    with receiver.writing(first, second):
        assert receiver.is_writing(first)
        with pytest.raises(HearthError) as caught, receiver.writing(second):
            pytest.fail("two writers")
        assert caught.value.code is Code.CONFLICT
    with receiver.writing(second):
        assert not receiver.is_writing(first)


def test_no_link_is_followed(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("keep")
    (tmp_path / "f").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        asyncio.run(receiver.append(tmp_path / "f", Span(0, 1), stream(b"x"), keeps_broken=True))
    assert (tmp_path / "elsewhere").read_text() == "keep"


def test_a_file_that_would_fill_the_disk_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    uploads.require_space(tmp_path, 0)
    with pytest.raises(HearthError) as caught:
        uploads.require_space(tmp_path, 2**60)
    assert caught.value.reason == "DISK_FULL"
    disk = os.statvfs(tmp_path)
    with pytest.raises(HearthError):  # something stays free for the state store
        uploads.require_space(tmp_path, disk.f_bavail * disk.f_frsize)
