import mmap
import os
from pathlib import Path

import pytest

from appliance.orchestrator.held_file import HeldFile, lock_memory

SIZE = 3 * mmap.PAGESIZE + 17


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE))
    return path


def locked_bytes() -> int:
    """Of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmLck:"))


def test_its_pages_are_locked_until_it_is_closed(path: Path) -> None:
    before = locked_bytes()
    file = HeldFile(path)
    if not file.is_locked:
        pytest.skip("this machine's RLIMIT_MEMLOCK allows nothing")
    assert locked_bytes() - before == 4 * mmap.PAGESIZE
    file.close()
    file.close()
    assert locked_bytes() == before


def test_a_kernel_that_refuses_is_believed(path: Path) -> None:
    asked: list[int] = []

    def refuse(address: int, num_bytes: int) -> bool:
        asked.append(num_bytes)
        return False

    file = HeldFile(path, lock=refuse)
    assert asked == [SIZE]
    assert not file.is_locked
    file.close()


def test_reading_lets_others_go_first_and_ends_when_nobody_wants_it(path: Path) -> None:
    waits = iter([True, True, False, False])
    file = HeldFile(path, must_wait=lambda: next(waits))
    file.close()
    assert list(waits) == [False], "two pauses, then one piece"
    never = HeldFile(path, must_wait=lambda: True, is_unwanted=lambda: True, lock=lock_memory)
    assert not never.is_locked
    never.close()


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    file = HeldFile(tmp_path / "empty")
    assert file.num_bytes == 0
    file.close()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HeldFile(tmp_path / "nothing")
