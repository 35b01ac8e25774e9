"""What a person or a script sees: tables and records or JSON on stdout, progress and errors on stderr.

Text that came from elsewhere (names, model output, messages) is printed without terminal control sequences.
Rich is imported where something is printed: help and completion do without.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.sdk.originals import original_of

if TYPE_CHECKING:
    from rich.console import Console

UNLIMITED_COLUMNS = 10_000
"""Width of what is not a terminal: scripts get whole lines."""


class OutputFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def printable(text: str) -> str:
    """Without control characters other than newline and tab, so that no text can steer the terminal."""
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"))


def readable_time(timestamp: str | None) -> str:
    """An RFC 3339 timestamp in UTC, for people."""
    return f"{timestamp[:10]} {timestamp[11:19]} UTC" if timestamp else ""


def print_json(value: object) -> None:
    """Resources as the server sent them."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(original_of(value)), indent=2).decode() + "\n")


def print_line(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


def print_error(message: str) -> None:
    """One line on stderr."""
    _print_styled(_errors(), "Error: " + " ".join(printable(message).split()), "red")


def print_note(message: str) -> None:
    """For the person beside the result, never part of it."""
    _print_styled(_errors(), printable(message), "dim")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On a terminal as wide as that, elsewhere whole lines."""
    from appliance.cli.tables import table_lines

    console = _results()
    width = console.width if sys.stdout.isatty() else None
    heading, *lines = table_lines(headings, [[printable(text) for text in row] for row in rows], width)
    _print_styled(console, heading, "bold")
    for line in lines:
        sys.stdout.write(line + "\n")


def print_record(fields: Sequence[tuple[str, str]]) -> None:
    """`Name: value` lines, values aligned; fields without a value are left out."""
    from rich.text import Text

    console = _results()
    known = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in known), default=0) + len(":  ")
    for name, value in known:
        console.print(Text.assemble((f"{name}:".ljust(width), "bold"), printable(value)), soft_wrap=True)


class ProgressLine:
    """One line that follows something slow: redrawn on a terminal, printed on every change elsewhere."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._shown = ""
        self._started_at = time.monotonic()

    def show(self, text: str) -> None:
        from rich.text import Text

        text = printable(text)
        if self._status is not None:
            elapsed_s = int(time.monotonic() - self._started_at)
            self._status.update(Text(f"{text} · {elapsed_s} s"))
            self._status.start()
        elif text != self._shown:
            self._console.print(text, markup=False, soft_wrap=True)
        self._shown = text

    def hide(self) -> None:
        if self._status is not None:
            self._status.stop()


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    line = ProgressLine(_errors())
    try:
        yield line
    finally:
        line.hide()


@contextmanager
def upload_progress(files: Sequence[Path], is_quiet: bool) -> Iterator[Callable[[Path, int], None]]:
    """A bar over all files; yields what is told of each piece sent."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = _errors()
    total = sum(file.stat().st_size for file in files)
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=is_quiet or not console.is_terminal) as progress:
        task = progress.add_task("upload", total=total)

        def advance(file: Path, size: int) -> None:
            progress.update(task, advance=size, description=printable(file.name))

        yield advance
    if not is_quiet and not console.is_terminal:
        print_note(f"uploaded {total:,} bytes")


@contextmanager
def download_progress(is_quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """A line with what has come so far; yields what is told of each piece of each file."""
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = _errors()
    columns = (TextColumn("{task.description}", markup=False), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=is_quiet or not console.is_terminal) as progress:
        task = progress.add_task("download", total=None)

        def advance(name: str, size: int) -> None:
            progress.update(task, advance=size, description=printable(name))

        yield advance


def _print_styled(console: "Console", text: str, style: str) -> None:
    from rich.text import Text

    console.print(Text(text, style=style), soft_wrap=True)


def _results() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)


def _errors() -> "Console":
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)
