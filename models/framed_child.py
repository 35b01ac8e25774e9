"""A child process that answers one request at a time, and is killed when it does not: for strangers' data and programs.

Parent and child exchange frames over the child's stdin and stdout: 4 bytes of big-endian length, then the payload. The
child is started with Popen as `python -m MODULE PARENT_PID …`, never forked: the parent is large and has threads. The
parent's half is `FramedChild`; the child's half is `confine`, `read_frame` and `write_frame`.
"""

import ctypes
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_LENGTH = struct.Struct(">I")
_PIPE_CHUNK_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class ChildLost(Exception):
    """The child is of no more use: it ended, or did not answer in time, or does not speak the protocol."""


class FramedChild:
    """Runs `module` of this project. For one caller thread, which lasts: the kernel ends a child with its thread."""

    def __init__(
        self, module: str, arguments: Sequence[str] = (), *, reply_bytes_max: int, pass_fds: Sequence[int] = ()
    ) -> None:
        """`pass_fds`: open in the child, too, under the same numbers."""
        self._command = [sys.executable, "-s", "-B", "-m", module, str(os.getpid()), *arguments]
        self._reply_bytes_max = reply_bytes_max
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """In the place of whatever ran before; raises ChildLost on a machine out of processes."""
        self.stop()
        try:
            self._process = subprocess.Popen(
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Where the package lies, so that it is importable however it was installed; no environment needed.
                cwd=Path(__file__).parent.parent,
                env={},
                pass_fds=self._pass_fds,
            )
        except OSError as error:
            raise ChildLost("no process could be started") from error

    def stop(self) -> int | None:
        """How the child ended, by itself or killed here."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.communicate()  # reads and closes the pipes, and waits
        return process.returncode

    def exchange(self, request: bytes | None, timeout_s: float) -> bytes:
        """Write the request while reading the reply; whichever side stalls, the deadline holds. Raises ChildLost.

        None: only wait for what the child says of its own accord.
        """
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise ChildLost("no process is running")
        write_end, read_end = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(write_end, False)
        poller = select.poll()
        poller.register(read_end, select.POLLIN)
        outgoing, incoming = memoryview(b"" if request is None else _LENGTH.pack(len(request)) + request), bytearray()
        if outgoing:
            poller.register(write_end, select.POLLOUT)
        deadline = time.monotonic() + timeout_s
        while not self._is_whole_frame(incoming):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise ChildLost(f"it took longer than {timeout_s:g} s")
            for descriptor, _ in poller.poll(remaining_s * 1000):
                if descriptor == read_end:
                    incoming += _read_chunk(read_end)
                else:
                    outgoing = outgoing[_write_chunk(write_end, outgoing) :]
                    if not outgoing:
                        poller.unregister(write_end)
        return bytes(memoryview(incoming)[_LENGTH.size :])

    def _is_whole_frame(self, incoming: bytearray) -> bool:
        if len(incoming) < _LENGTH.size:
            return False
        length: int = _LENGTH.unpack_from(incoming)[0]
        if length > self._reply_bytes_max:
            raise ChildLost("its answer is too long")
        return len(incoming) >= _LENGTH.size + length


def _read_chunk(descriptor: int) -> bytes:
    chunk = os.read(descriptor, _PIPE_CHUNK_BYTES)
    if not chunk:
        raise ChildLost("its process ended")
    return chunk


def _write_chunk(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data[:_PIPE_CHUNK_BYTES])
    except BrokenPipeError as error:
        raise ChildLost("its process ended") from error


# ---- the child


def confine(parent_pid: int, *, address_space_bytes: int) -> None:
    """End with the parent, take no more memory than this, write no file, start no process."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the signal was asked for
        sys.exit(1)
    limits = {
        resource.RLIMIT_AS: address_space_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def read_frame(stdin: BinaryIO) -> bytes | None:
    """None: the parent asks for nothing more."""
    header = stdin.read(_LENGTH.size)
    return stdin.read(_LENGTH.unpack(header)[0]) if len(header) == _LENGTH.size else None


def write_frame(stdout: BinaryIO, payload: bytes) -> None:
    stdout.write(_LENGTH.pack(len(payload)) + payload)
    stdout.flush()
