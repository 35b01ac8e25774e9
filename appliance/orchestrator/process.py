"""A worker as the operating system sees it: a process in a session of its own, its socket, its last words, its end.

It is told from a later process with the same pid by start time and boot id. Whatever it started ends with it. Never
speaks the protocol and never decides when to start or stop: that is the replica's.
"""

import asyncio
import hashlib
import logging
import os
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from appliance.orchestrator.gpus import Device

logger = logging.getLogger(__name__)

LOG_TAIL_LINES = 50
LOG_LINE_LENGTH_MAX = 2000
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 107, and a name is yet to be appended
LEFTOVER_POLL_S = 0.01
LEFTOVER_TIMEOUT_S = 5.0
_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_SOURCE_ROOT = Path(__file__).parent.parent.parent


class ProcessIdentity(NamedTuple):
    """Names one process for ever; a pid alone names a different one tomorrow."""

    pid: int
    started_ticks: int
    """Field 22 of /proc/PID/stat."""
    boot_id: str


def identify(pid: int) -> ProcessIdentity | None:
    """None when there is no such process, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name in parentheses may hold anything; field 3 follows it
    if fields[0] in "ZX":
        return None
    return ProcessIdentity(pid, int(fields[19]), read_boot_id())


def read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def exists(pid: int) -> bool:
    """Whether a process of that pid is in our pid namespace, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    return True


async def end_leftover(identity: ProcessIdentity) -> bool:
    """End exactly this process and what it started; returns whether it is gone. A later process is left alone."""
    found = identify(identity.pid)
    if identity.boot_id != read_boot_id() or found not in (None, identity):
        return True
    # With the leader gone its group may live on; its pid is not given to another process before the group is empty.
    _kill_group(identity.pid)
    # It is not our child, so nothing tells when it is gone.
    for _ in range(round(LEFTOVER_TIMEOUT_S / LEFTOVER_POLL_S)):
        if identify(identity.pid) != identity:
            return True
        await asyncio.sleep(LEFTOVER_POLL_S)
    return False


def prepare_run_dir(run_dir: Path) -> Path:
    """An empty directory, mode 0700, for the private directories of workers; what an earlier daemon left is removed.

    It lies in the system's directory for temporary files when `run_dir` is too long a name for a unix socket.
    """
    if len(os.fsencode(run_dir.absolute())) + len("/w-12345678/socket") > SOCKET_PATH_BYTES_MAX:
        digest = hashlib.sha256(os.fsencode(run_dir.absolute())).hexdigest()[:12]
        run_dir = Path(tempfile.gettempdir()) / f"hearth-{digest}"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = run_dir.lstat()  # in a shared directory somebody else may have made it first, or a link in its place
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{run_dir} is not a directory of our own")
    run_dir.chmod(0o700)
    for leftover in run_dir.iterdir():
        shutil.rmtree(leftover, ignore_errors=True)
    return run_dir


def worker_environment(home: Path, devices: Sequence[Device], num_threads: int, kernel_cache: Path) -> dict[str, str]:
    """All that a worker inherits: no keys, no proxies, no settings of the daemon."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        "PYTHONPATH": str(_SOURCE_ROOT),  # the daemon's own code, whatever the working directory
        "HOME": str(home),
        "TMPDIR": str(home),  # what a killed worker leaves is removed with it
        "LANG": "C.UTF-8",
        # Compiled kernels outlive the worker, and its home does not.
        "TRITON_CACHE_DIR": str(kernel_cache / "triton"),
        "CUDA_CACHE_PATH": str(kernel_cache / "cuda"),
        "CUDA_VISIBLE_DEVICES": ",".join(device.id for device in devices if device.is_cuda),
        "OMP_NUM_THREADS": str(num_threads),
        # Threads that spin while they wait take the cores of those they wait for: on a busy machine a step takes
        # three to ten times as long.
        "OMP_WAIT_POLICY": "passive",
        # torch asks for huge pages: products read weights 4 to 8 % faster, and fewer pages are touched for them.
        "THP_MEM_ALLOC_ENABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The processes of a worker on several devices meet on this machine and listen to nobody else.
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "HF_HUB_OFFLINE": "1",
    }


class LogTail:
    """The last lines a worker wrote; every line also goes to the daemon's log."""

    def __init__(self, label: str) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self.label = label
        """Before each line in the daemon's log; a spare worker's changes when it becomes somebody's."""
        self._unfinished = b""

    def feed(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._add(line)
        if len(self._unfinished) > LOG_LINE_LENGTH_MAX:
            self.finish()

    def finish(self) -> None:
        if self._unfinished:
            self._add(self._unfinished)
            self._unfinished = b""

    def _add(self, line: bytes) -> None:
        text = line[:LOG_LINE_LENGTH_MAX].decode(errors="replace")
        self.lines.append(text)
        logger.info("%s: %s", self.label, text)


class WorkerProcess:
    """One spawned worker with everything that must be given back when it ends. Made by `spawn`, ended by `close`."""

    def __init__(
        self, process: asyncio.subprocess.Process, listener: socket.socket, log: LogTail, resources: ExitStack
    ) -> None:
        self.pid = process.pid
        self.identity = identify(process.pid)
        """None when it ended before it could be looked at."""
        self.log = log
        self._process = process
        self._listener = listener
        self._resources = resources

    @classmethod
    async def spawn(
        cls,
        command: list[str],
        run_dir: Path,
        label: str,
        devices: Sequence[Device],
        num_threads: int,
        kernel_cache: Path | None = None,
    ) -> "WorkerProcess":
        """Start `command --socket PATH --parent-pid PID` in a private directory; raises OSError when it cannot be.

        `kernel_cache` None: kernels that it compiles are kept in that directory, and go with it.

        Called on the main thread only: the parent-death signal comes when the *thread* that spawned ends.
        """
        with ExitStack() as undo:
            home = Path(tempfile.mkdtemp(prefix="w-", dir=run_dir))  # mode 0700
            undo.callback(shutil.rmtree, home, ignore_errors=True)
            listener = undo.enter_context(_listen(home / "socket"))
            log = LogTail(label)
            output = undo.enter_context(_OutputPipe(log))
            process = await asyncio.create_subprocess_exec(
                *command,
                *("--socket", str(home / "socket"), "--parent-pid", str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end,
                stderr=output.write_end,
                cwd=home,
                env=worker_environment(home, devices, num_threads, kernel_cache or home / "kernels"),
                start_new_session=True,
                close_fds=True,
            )
            output.close_write_end()
            return cls(process, listener, log, undo.pop_all())

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The worker's connection; any other process that found the socket is turned away."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            pid, uid, _ = _PEER_CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
            )
            if (pid, uid) == (self.pid, os.getuid()):
                return await asyncio.open_unix_connection(sock=connection)
            connection.close()
            logger.warning("process %d of user %d connected to the socket of worker %d", pid, uid, self.pid)

    async def wait(self) -> str:
        """Returns how it ended, as soon as it has."""
        status = await self._process.wait()
        if status >= 0:
            return f"the worker exited with status {status}"
        name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return f"the worker was ended by {name}"

    async def close(self) -> None:
        """Kill what is left of its session, wait for its end and give everything back."""
        _kill_group(self.pid)
        await self._process.wait()
        self._resources.close()


class _OutputPipe:
    """Reads a worker's stdout and stderr into its log.

    Not asyncio's own pipe: with it `Process.wait` would wait for every grandchild that holds the other end.
    """

    def __init__(self, log: LogTail) -> None:
        self._log = log

    def __enter__(self) -> "_OutputPipe":
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        asyncio.get_running_loop().add_reader(self._read_end, self._read)
        return self

    def close_write_end(self) -> None:
        os.close(self.write_end)
        self.write_end = -1

    def __exit__(self, *_: object) -> None:
        if self.write_end >= 0:
            self.close_write_end()
        self._read()
        self._log.finish()
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)

    def _read(self) -> None:
        """At most a pipe's fill at a time, so that a worker that never stops writing cannot hold the loop."""
        try:
            data = os.read(self._read_end, 64 * 1024)
        except BlockingIOError:
            return
        if data:
            self._log.feed(data)
        else:
            asyncio.get_running_loop().remove_reader(self._read_end)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _kill_group(pid: int) -> None:
    """Workers lead their own session, so the group is theirs; a leader that was spawned a moment ago has one too."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it is gone
