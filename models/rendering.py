"""Chat templates rendered in a child process, so that one which loops or eats memory can be killed.

The parent (a worker) and the child (`python -m models.rendering DIRECTORY PARENT_PID`) exchange frames over the child's
stdin and stdout: 4 bytes of big-endian length, then msgpack. The child says once whether the template compiled, then
answers each list of messages with a text or an error. It is started with Popen, never forked: the parent is large.
"""

import ctypes
import math
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from models.conversation import OUTPUT_CHARACTERS_MAX, ChatTemplate, TemplateError, load_chat_template

RENDER_TIMEOUT_S = 2.0
START_TIMEOUT_S = 8.0
"""For the child to start and compile, counted from the first render that has to wait for it."""
COMPILE_CPU_S = 1
ADDRESS_SPACE_BYTES = 512 * 1024 * 1024
REQUEST_BYTES_MAX = 64 * 1024 * 1024

_REPLY_BYTES_MAX = 4 * OUTPUT_CHARACTERS_MAX + 4096  # a character takes at most four bytes
_PIPE_CHUNK_BYTES = 1024 * 1024
_LENGTH = struct.Struct(">I")
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class _Reply(msgspec.Struct, array_like=True):
    text: str = ""
    error: str | None = None


_decode_reply = msgspec.msgpack.Decoder(_Reply).decode


class _ChildLost(Exception):
    """The child is of no more use: it ended, or does not answer in time, or does not speak the protocol."""


class Renderer:
    """Renders a model folder's chat template. For one caller thread; `close` ends the child."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._refusal: str | None = None
        """Why this template will never render, as far as the child could say."""
        self._is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel ends the child when the thread that started it ends: construct and render in lasting threads.
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def render(self, messages: list[dict[str, object]]) -> str:
        """The prompt for these messages, ready for the assistant's turn; raises TemplateError within its deadlines."""
        try:
            request = msgspec.msgpack.encode(messages)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:  # e.g. half of a surrogate pair
            raise TemplateError("the messages cannot be written as text") from error
        if len(request) > REQUEST_BYTES_MAX:
            raise TemplateError(f"the messages are larger than {REQUEST_BYTES_MAX} bytes")
        if not self._is_ready:
            self._await_ready()
        if self._refusal is not None:
            raise TemplateError(self._refusal)
        try:
            reply = self._exchange(_LENGTH.pack(len(request)) + request, RENDER_TIMEOUT_S)
        except _ChildLost as error:
            self._restart()
            raise TemplateError(f"rendering the chat template failed: {error}") from error
        if reply.error is not None:
            raise TemplateError(reply.error)
        return reply.text

    def close(self) -> None:
        self._stop()

    def _start(self) -> None:
        self._is_ready = False
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-B", "-m", "models.rendering", str(self._directory), str(os.getpid())],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Where the package lies, so that `models` is importable however it was installed; no environment needed.
            cwd=Path(__file__).parent.parent,
            env={},
        )

    def _stop(self) -> int | None:
        """How the child ended, by itself or killed here."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.communicate()  # reads and closes the pipes, and waits
        return process.returncode

    def _restart(self) -> None:
        """In the background, for the next render; on a machine out of processes, that one tries again."""
        self._stop()
        try:
            self._start()
        except OSError:
            self._process = None

    def _await_ready(self) -> None:
        if self._process is None:
            self._restart()
        try:
            self._refusal = self._exchange(b"", START_TIMEOUT_S).error
        except _ChildLost as error:
            if self._stop() != -signal.SIGXCPU:  # a busy machine; the next render may find a new child ready
                self._restart()
                raise TemplateError(f"the chat template's renderer did not start: {error}") from error
            self._refusal = "the chat template cannot be compiled within its limits"
        if self._refusal is not None:
            self._stop()
        self._is_ready = True

    def _exchange(self, request: bytes, timeout_s: float) -> _Reply:
        """Write the request while reading the reply; whichever side stalls, the deadline holds."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise _ChildLost("no process could be started")
        write_end, read_end = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(write_end, False)
        poller = select.poll()
        poller.register(read_end, select.POLLIN)
        if request:
            poller.register(write_end, select.POLLOUT)
        outgoing, incoming = memoryview(request), bytearray()
        deadline = time.monotonic() + timeout_s
        while not _is_whole_frame(incoming):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise _ChildLost(f"it took longer than {timeout_s:g} s")
            for descriptor, _ in poller.poll(remaining_s * 1000):
                if descriptor == read_end:
                    incoming += _read_chunk(read_end)
                else:
                    outgoing = outgoing[_write_chunk(write_end, outgoing) :]
                    if not outgoing:
                        poller.unregister(write_end)
        try:
            return _decode_reply(incoming[_LENGTH.size :])
        except msgspec.DecodeError as error:
            raise _ChildLost("it gave no proper answer") from error


def _is_whole_frame(incoming: bytearray) -> bool:
    if len(incoming) < _LENGTH.size:
        return False
    length: int = _LENGTH.unpack_from(incoming)[0]
    if length > _REPLY_BYTES_MAX:
        raise _ChildLost("its answer is too long")
    return len(incoming) >= _LENGTH.size + length


def _read_chunk(descriptor: int) -> bytes:
    chunk = os.read(descriptor, _PIPE_CHUNK_BYTES)
    if not chunk:
        raise _ChildLost("its process ended")
    return chunk


def _write_chunk(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data[:_PIPE_CHUNK_BYTES])
    except BrokenPipeError as error:
        raise _ChildLost("its process ended") from error


# ---- the child


def main(directory: str, parent_pid: int) -> None:
    """Answer until stdin ends."""
    _die_with_parent(parent_pid)
    _limit_resources()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    try:
        template = load_chat_template(Path(directory))
        _write_frame(stdout, _Reply(error=None if template else "this model has no chat template"))
    except TemplateError as error:
        template = None
        _write_frame(stdout, _Reply(error=str(error)))
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    while template is not None and len(header := stdin.read(_LENGTH.size)) == _LENGTH.size:
        messages = msgspec.msgpack.decode(stdin.read(_LENGTH.unpack(header)[0]))
        _write_frame(stdout, _answer(template, messages))


def _answer(template: ChatTemplate, messages: list[dict[str, object]]) -> _Reply:
    try:
        text = template.render(messages)
        text.encode("utf-8")
    except TemplateError as error:
        return _Reply(error=str(error).encode("utf-8", "replace").decode("utf-8"))
    except UnicodeEncodeError:
        return _Reply(error="the chat template wrote half of a surrogate pair")
    return _Reply(text=text)


def _write_frame(stdout: BinaryIO, reply: _Reply) -> None:
    payload = msgspec.msgpack.encode(reply)
    stdout.write(_LENGTH.pack(len(payload)) + payload)
    stdout.flush()


def _die_with_parent(parent_pid: int) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the signal was asked for
        sys.exit(1)


def _limit_resources() -> None:
    """Memory for good, nothing to be written or started; processor time only until the template is compiled."""
    compile_cpu_s = math.ceil(time.process_time()) + COMPILE_CPU_S
    for kind, soft in {
        resource.RLIMIT_AS: ADDRESS_SPACE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CPU: compile_cpu_s,
    }.items():
        hard = resource.getrlimit(kind)[1]
        kept = hard if kind == resource.RLIMIT_CPU else soft
        resource.setrlimit(kind, (soft, kept))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
