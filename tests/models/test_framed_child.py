import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from models.framed_child import ChildLost, FramedChild
from tests.models.echoing_child import ADDRESS_SPACE_BYTES

ECHO = "tests.models.echoing_child"
PATIENCE_S = 30.0


@pytest.fixture
def child() -> Iterator[FramedChild]:
    child = FramedChild(ECHO, reply_bytes_max=2_000_000)
    child.start()
    assert child.exchange(None, PATIENCE_S) == b"ready"
    yield child
    child.stop()


def test_a_request_is_answered_whatever_its_size(child: FramedChild) -> None:
    for request in (b"", b"x", b"x" * 1_500_000):
        assert child.exchange(request, PATIENCE_S) == request


def test_a_child_that_hangs_is_given_up_at_the_deadline_and_can_be_replaced(child: FramedChild) -> None:
    began = time.monotonic()
    with pytest.raises(ChildLost, match="longer than"):
        child.exchange(b"hang", 0.2)
    assert time.monotonic() - began < 5
    child.start()
    child.exchange(None, PATIENCE_S)
    assert child.exchange(b"again", PATIENCE_S) == b"again"


@pytest.mark.parametrize(("request_bytes", "complaint"), [(b"exit", "ended"), (b"chatter", "too long")])
def test_a_child_that_misbehaves_is_lost(child: FramedChild, request_bytes: bytes, complaint: str) -> None:
    with pytest.raises(ChildLost, match=complaint):
        child.exchange(request_bytes, PATIENCE_S)


def test_memory_is_limited(child: FramedChild) -> None:
    assert child.exchange(b"eat", PATIENCE_S) == b"MemoryError"


def test_a_stopped_child_is_not_running_and_stopping_twice_is_harmless(child: FramedChild) -> None:
    assert child.is_running
    child.stop()
    assert child.stop() is None
    with pytest.raises(ChildLost, match="no process"):
        child.exchange(b"x", PATIENCE_S)


def test_the_child_inherits_nothing(child: FramedChild, tmp_path: Path) -> None:
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    child.start()
    child.exchange(None, PATIENCE_S)
    os.close(secret)
    [process] = [one for one in psutil.Process().children() if ECHO in one.cmdline()]
    assert {int(name) for name in os.listdir(f"/proc/{process.pid}/fd")} == {0, 1, 2}
    assert process.environ().keys() <= {"LC_CTYPE"}
    assert process.rlimit(psutil.RLIMIT_AS) == (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
    assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_NPROC) == (0, 0)


def test_the_child_dies_with_its_parent() -> None:
    script = (
        "import sys; from models.framed_child import FramedChild\n"
        f"child = FramedChild({ECHO!r}, reply_bytes_max=100); child.start(); child.exchange(None, {PATIENCE_S})\n"
        "print(child._process.pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent.parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    child.send_signal(signal.SIGSTOP)  # stopped, it cannot notice that its stdin ended: only the kernel can end it
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
