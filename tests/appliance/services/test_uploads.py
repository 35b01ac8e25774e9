import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.services import uploads
from appliance.services.uploads import Grant, check_filename, load_signing_key, received, sign, verify

KEY = b"k" * 32
GRANT = Grant("acme", "poet", "d1", "model.safetensors", 10, 1000.0)


def test_a_signed_url_gives_back_what_it_allows() -> None:
    assert verify(sign(GRANT, KEY), "model.safetensors", KEY, now=999.9) == GRANT


@pytest.mark.parametrize(
    ("filename", "key", "now"),
    [("config.json", KEY, 0.0), ("model.safetensors", b"x" * 32, 0.0), ("model.safetensors", KEY, 1000.0)],
)
def test_another_file_another_key_and_a_later_time_are_refused(filename: str, key: bytes, now: float) -> None:
    with pytest.raises(HearthError) as caught:
        verify(sign(GRANT, KEY), filename, key, now)
    assert caught.value.code is Code.FORBIDDEN


@given(st.data())
def test_no_changed_token_is_accepted(data: st.DataObject) -> None:
    token = sign(GRANT, KEY)
    position = data.draw(st.integers(0, len(token) - 2))  # the last character has bits that carry nothing
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != token[position]))
    with pytest.raises(HearthError):
        verify(token[:position] + other + token[position + 1 :], GRANT.filename, KEY, now=0.0)


@pytest.mark.parametrize("token", ["", "=", "a", "aaaa", "é", "\0", "../../etc", "A" * 10_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(HearthError) as caught:
        verify(token, GRANT.filename, KEY, now=0.0)
    assert caught.value.code is Code.FORBIDDEN


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "config.json", "README.md", "_x", "a" * 200])
def test_plain_file_names_are_taken(name: str) -> None:
    check_filename(name, "filenameToSize")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".gitattributes", "a/b", "/etc/passwd", "a\\b", "a\0b", "a b", "é", "-rf", "a\n", "a" * 201]
)
def test_file_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(HearthError) as caught:
        check_filename(name, "filenameToSize")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "filenameToSize")


def test_the_signing_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "signing-key"
    key = load_signing_key(path)
    assert len(key) == 32
    assert load_signing_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def grant(size_bytes: int) -> Grant:
    return Grant("acme", "poet", "d1", "f", size_bytes, 0.0)


async def test_a_file_larger_than_the_buffer_arrives_whole(tmp_path: Path) -> None:
    chunks = [bytes([number]) * 700_001 for number in range(15)]
    content = b"".join(chunks)
    async with received(tmp_path, grant(len(content)), stream(*chunks)) as file:
        assert file.path.read_bytes() == content
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert len(content) > 2 * uploads.WRITE_BYTES
    assert os.listdir(tmp_path) == []


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with received(tmp_path, grant(0), stream()) as file:
        assert file.path.read_bytes() == b""


@pytest.mark.parametrize("chunks", [[b"12345", b"678901"], [b"12345"], []])
async def test_more_or_fewer_bytes_than_announced_are_refused_and_removed(tmp_path: Path, chunks: list[bytes]) -> None:
    with pytest.raises(HearthError) as caught:
        async with received(tmp_path, grant(10), stream(*chunks)):
            pytest.fail("taken")
    assert caught.value.code is Code.INVALID
    assert os.listdir(tmp_path) == []


async def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    has_begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * uploads.WRITE_BYTES
            has_begun.set()

    async def receive() -> None:
        async with received(tmp_path, grant(2**40), endless()):
            pytest.fail("taken")

    task = asyncio.create_task(receive())
    await has_begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert os.listdir(tmp_path) == []


def test_a_file_that_would_fill_the_disk_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    uploads.require_space(tmp_path, 0)
    with pytest.raises(HearthError) as caught:
        uploads.require_space(tmp_path, 2**60)
    assert caught.value.reason == "DISK_FULL"
    disk = os.statvfs(tmp_path)
    with pytest.raises(HearthError):  # something stays free for the state store
        uploads.require_space(tmp_path, disk.f_bavail * disk.f_frsize)
