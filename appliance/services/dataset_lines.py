"""The lines of a dataset's files, by number, in bounded memory. Knows nothing of what they mean.

A line ends with LF or CR LF; a byte order mark before the first and lines without anything on them do not count.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SKIP_BYTES = 1024 * 1024


class Line(NamedTuple):
    number: int
    """From 1, the blank ones counted."""
    content: bytes | None
    """None: longer than allowed."""


def read_lines(path: Path, line_bytes_max: int) -> Iterator[Line]:
    """Of one file. The end of a line counts towards its length."""
    with path.open("rb") as file:
        number = 0
        while content := file.readline(line_bytes_max + 1):
            number += 1
            if len(content) > line_bytes_max:
                while content and not content.endswith(b"\n"):
                    content = file.readline(_SKIP_BYTES)
                yield Line(number, None)
                continue
            if number == 1:
                content = content.removeprefix(BYTE_ORDER_MARK)
            if content := content.strip(b" \t\r\n"):
                yield Line(number, content)
