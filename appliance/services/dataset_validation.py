"""All files of a dataset, line by line: what is wrong with it, with file and line, or what it consists of.

Memory is bounded by one line, whatever the files are. Never raises for what stands in them. Pure but for reading.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from appliance.domain import DatasetFormat
from appliance.services.dataset_conversation import shown
from appliance.services.dataset_formats import Refused, check_example, detect_format, parse_line
from appliance.services.dataset_lines import Line, read_lines

PROBLEMS_MAX = 20
"""Reading stops at so many."""
IGNORED_NAMES_MAX = 16


class CheckedFile(msgspec.Struct, frozen=True):
    filename: str
    """As it is called in what is reported."""
    path: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What to look at, and what it may be."""

    files: list[CheckedFile]
    format: DatasetFormat | None
    """None: whatever the first example is."""
    line_bytes_max: int
    examples_max: int


class Report(msgspec.Struct, kw_only=True):
    format: DatasetFormat | None = None
    num_examples: int = 0
    num_tokens: int = 0
    """Estimated."""
    num_turns: int = 0
    problems: list[str] = []
    """Each with its file and line; empty: it is a dataset."""
    warnings: list[str] = []


def validate(check: Check) -> Report:
    return _Validation(check).run()


class _Validation:
    def __init__(self, check: Check) -> None:
        self._check = check
        self._report = Report(format=check.format)
        self._ignored: Counter[str] = Counter()
        self._first_use: dict[str, str] = {}

    def run(self) -> Report:
        for file in self._check.files:
            self._read_file(file)
        if not self._report.num_examples and not self._report.problems:
            self._report.problems.append("there are no examples: every line is empty")
        self._report.warnings += [
            f"{self._first_use[name]}: the field {shown(name)} is not used ({count:,} lines)"
            for name, count in self._ignored.items()
        ]
        return self._report

    def _read_file(self, file: CheckedFile) -> None:
        for line in read_lines(Path(file.path), self._check.line_bytes_max):
            if len(self._report.problems) >= PROBLEMS_MAX or self._report.num_examples > self._check.examples_max:
                return
            place = f"{file.filename} line {line.number}"
            try:
                self._read_line(line, place)
            except Refused as refused:
                self._report.problems.append(f"{place}: {refused}")

    def _read_line(self, line: Line, place: str) -> None:
        report = self._report
        if line.content is None:
            raise Refused(f"longer than {self._check.line_bytes_max:,} bytes")
        value = parse_line(line.content)
        if report.format is None and not report.num_examples:
            self._settle_format(value, place)
        example = check_example(value, line.content, report.format)
        report.num_examples += 1
        report.num_tokens += example.num_tokens
        report.num_turns += example.num_turns
        self._note_ignored(example.ignored, place)
        if report.num_examples > self._check.examples_max:
            raise Refused(f"more than {self._check.examples_max:,} examples")

    def _settle_format(self, first: dict[str, Any], place: str) -> None:
        self._report.format = detect_format(first)
        if self._report.format is DatasetFormat.RL:
            self._report.warnings.append(
                f"{place}: no message of the assistant, so it is taken for {DatasetFormat.RL}; "
                f"create the dataset with format {DatasetFormat.CHAT} if each example is to have one"
            )

    def _note_ignored(self, names: frozenset[str], place: str) -> None:
        for name in names:
            if name in self._first_use or len(self._first_use) < IGNORED_NAMES_MAX:
                self._first_use.setdefault(name, place)
                self._ignored[name] += 1
