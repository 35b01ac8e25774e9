"""What a backup holds inside, and what it may hold."""

import io
import tarfile
from collections.abc import Callable
from contextlib import suppress

import pytest

from appliance.errors import HearthError
from appliance.operations.archive import MANIFEST, Manifest, read_manifest, read_members, writing_archive

CONTENT = {
    "hearth.db": b"rows",
    "models/dir/model-00001-of-00002.safetensors": bytes(3_000_000),
    f"datasets/dir/{'n' * 200}.jsonl": b"",
}


def archive(content: dict[str, bytes] = CONTENT) -> bytes:
    file = io.BytesIO()
    with writing_archive(file, lambda name, size: None) as writer:
        for name, value in content.items():
            writer.add(name, io.BytesIO(value), len(value), 1.5)
        manifest = Manifest(
            hearth_version="1",
            schema=5,
            create_time="2026-11-20T10:00:00Z",
            has_models=True,
            has_master_key=False,
            left_out=[],
            files=writer.files,
        )
        writer.finish(manifest, 1.5)
    return file.getvalue()


def foreign_archive(**changes: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("hearth.db")
        for name, value in changes.items():
            setattr(member, name, value)
        tar.addfile(member)
    return file.getvalue()


def test_what_was_put_in_comes_out_and_its_hashes_come_last() -> None:
    found = [(member.name, member.content.read()) for member in read_members(io.BytesIO(archive()))]
    assert dict(found[:-1]) == CONTENT
    assert found[-1][0] == MANIFEST
    manifest = read_manifest(found[-1][1])
    assert [file.name for file in manifest.files] == list(CONTENT)
    assert [file.size_bytes for file in manifest.files] == [len(value) for value in CONTENT.values()]


def test_progress_is_told_of_every_byte() -> None:
    told: list[tuple[str, int]] = []
    with writing_archive(io.BytesIO(), lambda name, size: told.append((name, size))) as writer:
        writer.add("hearth.db", io.BytesIO(bytes(3_000_000)), 3_000_000, 0.0)
    assert sum(size for _, size in told) == 3_000_000
    assert {name for name, _ in told} == {"hearth.db"}


def test_a_file_that_has_become_shorter_meanwhile_is_an_error() -> None:
    with (
        pytest.raises(OSError, match="unexpected end"),
        writing_archive(io.BytesIO(), lambda name, size: None) as writer,
    ):
        writer.add("hearth.db", io.BytesIO(b"abc"), 4, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../hearth.db"},
        {"name": "/etc/passwd"},
        {"name": "models/../../x"},
        {"name": "models/a/.ssh"},
        {"name": "models/a"},
        {"name": "elsewhere/a/b"},
        {"name": "models/a/" + "b" * 300},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "master-key"},
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
    ids=str,
)
def test_no_other_name_and_no_other_kind_of_member_is_accepted(changes: dict[str, object]) -> None:
    with pytest.raises(HearthError, match="which no backup of this version does"):
        list(read_members(io.BytesIO(foreign_archive(**changes))))


@pytest.mark.parametrize(
    "damage",
    [lambda whole: b"", lambda whole: b"x" * 2000, lambda whole: whole[:1000], lambda whole: whole[: len(whole) // 2]],
    ids=["empty", "no tar", "cut off in the first member", "cut off later"],
)
def test_what_is_damaged_never_looks_whole(damage: Callable[[bytes], bytes]) -> None:
    names: list[str] = []
    with suppress(HearthError):  # or it ends before the list of its files comes
        for member in read_members(io.BytesIO(damage(archive()))):
            member.content.read()
            names.append(member.name)
    assert MANIFEST not in names


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 1}'])
def test_a_list_of_files_that_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(HearthError, match="damaged"):
        read_manifest(content)


def test_a_format_of_a_later_version_is_named() -> None:
    *_, last = (
        (member.name, member.content.read()) for member in read_members(io.BytesIO(archive({"hearth.db": b""})))
    )
    with pytest.raises(HearthError, match="has format 2"):
        read_manifest(last[1].replace(b'"format": 1', b'"format": 2'))
