import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import Code, HearthError
from appliance.store.lock import LOCK_FILE, find_lock_holder, lock_data_dir

HOLD_LOCK = """
import sys
from pathlib import Path
from appliance.store.lock import lock_data_dir
with lock_data_dir(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def start_holder(data_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_first_daemon_makes_the_directory_for_itself_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "b"
    with lock_data_dir(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert (data_dir / LOCK_FILE).read_text() == f"{os.getpid()}\n"
    with lock_data_dir(data_dir):
        pass


def test_a_second_daemon_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        with pytest.raises(HearthError, match=rf"pid {holder.pid}\b") as caught, lock_data_dir(tmp_path):
            pytest.fail("two daemons on one directory")
        assert caught.value.code is Code.FAILED_PRECONDITION
        assert caught.value.reason == "LOCKED"
        assert (tmp_path / LOCK_FILE).read_text() == f"{holder.pid}\n"
        holder.communicate("")


def test_a_killed_daemon_leaves_no_lock(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        holder.kill()
        holder.communicate()
    with lock_data_dir(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == f"{os.getpid()}\n"


def test_a_child_that_outlives_the_daemon_does_not_keep_the_lock(tmp_path: Path) -> None:
    with lock_data_dir(tmp_path):
        # Also one whose starter forgot to close descriptors.
        child = subprocess.Popen(
            [sys.executable, "-c", "input(print('alive', flush=True))"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"alive\n"
    with child, lock_data_dir(tmp_path):
        assert child.poll() is None
        child.communicate(b"\n")


def test_who_holds_the_lock_is_found_without_taking_it(tmp_path: Path) -> None:
    assert find_lock_holder(tmp_path / "nowhere") is None
    holder = start_holder(tmp_path)
    assert find_lock_holder(tmp_path) == holder.pid
    holder.kill()
    holder.communicate()
    assert find_lock_holder(tmp_path) is None
