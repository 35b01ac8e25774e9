"""A file whose pages stay in the host's memory: read into the page cache, mapped read-only, and locked where allowed.

Whoever opens the same file reads it from memory; the pages are shared, never copied. Blocking: for threads only.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

_PIECE_BYTES = 8 * 1024 * 1024
_PAUSE_S = 0.05
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
for _function in (_libc.mlock, _libc.munmap):
    _function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

Lock = Callable[[int, int], bool]


def lock_memory(address: int, num_bytes: int) -> bool:
    """Whether the kernel agreed; it refuses beyond RLIMIT_MEMLOCK."""
    return bool(_libc.mlock(address, num_bytes) == 0)


class HeldFile:
    """`is_unwanted` is asked again and again while the file is read; `must_wait` likewise, to let others go first.

    Raises OSError when the file cannot be read or mapped. Without a lock the kernel may drop pages when it is short.
    """

    def __init__(
        self,
        path: Path,
        *,
        must_wait: Callable[[], bool] = lambda: False,
        is_unwanted: Callable[[], bool] = lambda: False,
        lock: Lock = lock_memory,
    ) -> None:
        self.is_locked = False
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.num_bytes = os.fstat(descriptor).st_size
            # Before it is mapped: a lock would read it, too, but in one go that nothing can interrupt.
            self._read(descriptor, must_wait, is_unwanted)
            # Not Python's own mmap: it tells nobody its address unless it is writable, and a writable private mapping
            # is copied by the lock.
            self._address = _map(descriptor, self.num_bytes)
        finally:
            os.close(descriptor)
        if not is_unwanted():
            self.is_locked = lock(self._address, self.num_bytes)

    def close(self) -> None:
        """Unlock and unmap; the pages are the kernel's to drop then."""
        if self._address:
            _libc.munmap(self._address, self.num_bytes)
            self._address = 0

    def _read(self, descriptor: int, must_wait: Callable[[], bool], is_unwanted: Callable[[], bool]) -> None:
        buffer = bytearray(min(_PIECE_BYTES, self.num_bytes))
        offset = 0
        while offset < self.num_bytes and not is_unwanted():
            if must_wait():
                time.sleep(_PAUSE_S)
                continue
            num_read = os.preadv(descriptor, [buffer], offset)
            if num_read == 0:
                return  # it has become shorter
            offset += num_read


def _map(descriptor: int, num_bytes: int) -> int:
    if not num_bytes:
        return 0
    address = _libc.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)
