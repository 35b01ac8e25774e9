"""What a person or a script sees: tables and records or JSON on stdout, progress and errors on stderr.

Text that came from elsewhere (names, model output, messages) is printed without terminal control sequences.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

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
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_line(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


def print_error(message: str) -> None:
    """One line on stderr."""
    line = " ".join(printable(message).split())
    _errors().print(Text(f"Error: {line}", style="red"), soft_wrap=True)


def print_note(message: str) -> None:
    """For the person beside the result, never part of it."""
    _errors().print(Text(printable(message), style="dim"), soft_wrap=True)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column, which is needed for the next command, is never cut; the others give way on a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    widest_id = max((len(row[0]) for row in rows), default=0)
    table.add_column(headings[0], no_wrap=True, min_width=widest_id)
    for heading in headings[1:]:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = _results()
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def print_record(fields: Sequence[tuple[str, str]]) -> None:
    """`Name: value` lines, values aligned; fields without a value are left out."""
    console = _results()
    known = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in known), default=0) + len(":  ")
    for name, value in known:
        console.print(Text.assemble((f"{name}:".ljust(width), "bold"), printable(value)), soft_wrap=True)


class ProgressLine:
    """One line that follows something slow: redrawn on a terminal, printed on every change elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._shown = ""
        self._started_at = time.monotonic()

    def show(self, text: str) -> None:
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


def _results() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)


def _errors() -> Console:
    return Console(file=sys.stderr, highlight=False)
