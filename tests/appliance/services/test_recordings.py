import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from appliance.errors import Code, HearthError
from appliance.services.recordings import CHUNK_BYTES, Recording

BYTES_MAX = 3 * CHUNK_BYTES


async def sent(recording: Recording) -> bytes:
    chunks = [chunk async for chunk in recording.chunks("r1")]
    assert {chunk.request_id for chunk in chunks} == {"r1"}
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert max(len(chunk.data) for chunk in chunks) <= CHUNK_BYTES
    return b"".join(chunk.data for chunk in chunks)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, BYTES_MAX])
async def test_what_was_written_is_sent_as_often_as_asked(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    with Recording(tmp_path, BYTES_MAX) as recording:
        for start in range(0, size, 300_000):
            await recording.write(content[start : start + 300_000])
        assert recording.num_bytes == size
        assert recording.sha256 == hashlib.sha256(content).hexdigest()
        assert await sent(recording) == content
        assert await sent(recording) == content
        assert recording.is_on_disk == (size >= CHUNK_BYTES)
        assert not os.listdir(tmp_path), "a file with a name would outlive the daemon"


async def test_a_write_of_any_size_is_sent_in_chunks(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 5)
    with Recording(tmp_path, BYTES_MAX) as recording:
        await recording.write(content)
        assert await sent(recording) == content


async def test_a_file_above_the_limit_is_too_large(tmp_path: Path) -> None:
    with Recording(tmp_path, 10, "file") as recording:
        await recording.write(bytes(10))
        with pytest.raises(HearthError, match="file: a sound file has at most 10 bytes") as refused:
            await recording.write(b"x")
    assert (refused.value.code, refused.value.param) == (Code.TOO_LARGE, "file")


async def test_a_small_file_can_be_replaced(tmp_path: Path) -> None:
    with Recording(tmp_path, BYTES_MAX) as recording:
        await recording.write(b"https://sounds.test/x.mp3")
        assert recording.beginning == b"https://sounds.test/x.mp3"
        recording.clear()
        await recording.write(b"sound")
        assert (await sent(recording), recording.num_bytes) == (b"sound", 5)
        assert recording.sha256 == hashlib.sha256(b"sound").hexdigest()


async def test_nothing_is_read_any_more_once_it_is_given_back(tmp_path: Path) -> None:
    with Recording(tmp_path, BYTES_MAX) as recording:
        await recording.write(bytes(CHUNK_BYTES))
        sending = recording.chunks("r1")
    with pytest.raises(ValueError, match="closed file"):
        await asyncio.wait_for(anext(sending), 10.0)
