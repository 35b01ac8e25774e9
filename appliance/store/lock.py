"""One daemon per data directory: a lock the kernel drops when its holder dies, however it dies.

The file is never removed, and its descriptor never reaches a child: a worker that outlives the daemon keeps nothing.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import Code, HearthError

LOCK_FILE = "hearth.lock"
KERNEL_LOCKS = Path("/proc/locks")


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Create the directory if need be and hold its lock; raises `failed_precondition` (LOCKED) naming the holder."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, data_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def find_lock_holder(data_dir: Path) -> int | None:
    """The process that holds the lock now, as the kernel lists it; asking takes no lock from anybody."""
    try:
        inode = (data_dir / LOCK_FILE).stat().st_ino
        lines = KERNEL_LOCKS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()  # 1: FLOCK ADVISORY WRITE 4242 fe:01:1234 0 EOF
        if words[1] == "FLOCK" and words[3] == "WRITE" and words[5].endswith(f":{inode}"):
            return int(words[4])
    return None


def _acquire(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise HearthError(
            Code.FAILED_PRECONDITION,
            f"another hearth daemon (pid {holder}) is using {data_dir}; stop it or choose another --data-dir",
            reason="LOCKED",
        ) from error
