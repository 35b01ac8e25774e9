"""A terminal of 80 columns with a program in it, and somebody who types and reads."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

TIMEOUT_S = 60.0
CTRL_C, CTRL_D = "\x03", "\x04"
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]")


class Terminal:
    def __init__(self, words: Sequence[str], environment: Mapping[str, str], columns: int = 80) -> None:
        self._screen, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.raw = ""
        """All that was written, control sequences included."""
        self._process = subprocess.Popen(
            words,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**_ENVIRONMENT, "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(inside)

    @property
    def text(self) -> str:
        """All that could be read, one after the other."""
        return _CONTROL.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def read_until(self, expected: str) -> str:
        """What was written from the beginning until `expected` is among it, as a regular expression."""
        deadline = time.monotonic() + TIMEOUT_S
        while not re.search(expected, self.text):
            assert time.monotonic() < deadline, f"{expected!r} did not come:\n{self.text}"
            assert self._read(0.1), f"the program ended without {expected!r}:\n{self.text}"
        return self.text

    def wait(self) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(0.1):
            assert time.monotonic() < deadline, f"the program does not end:\n{self.text}"
        return self._process.wait(TIMEOUT_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def _read(self, timeout_s: float) -> bool:
        """False: the program has closed its side."""
        if not select.select([self._screen], [], [], timeout_s)[0]:
            return True
        try:
            piece = os.read(self._screen, 65536)
        except OSError:  # how Linux says that nobody holds the other side
            return False
        self.raw += piece.decode(errors="replace")
        return bool(piece)


@contextmanager
def terminal(words: Sequence[str], environment: Mapping[str, str], columns: int = 80) -> Iterator[Terminal]:
    opened = Terminal(words, environment, columns)
    try:
        yield opened
    finally:
        opened.close()


def _take_terminal() -> None:
    """As the controlling one, so that Ctrl-C is a signal; what runs the tests may ignore it, as scripts' jobs do."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
