"""The stages of a load: what is going on, how far it is, and how long each took. The same for every kind of engine.

Stages follow one another. Parts of one, which may go on side by side, are told as `stage/part`.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

from runtime.engine import ReportProgress


class Stages:
    """Reports progress and keeps the time."""

    def __init__(self, report: ReportProgress) -> None:
        self._report = report
        self._durations_ms: dict[str, float] = {}
        self._stage = ""
        self._began_at = perf_counter()

    def begin(self, stage: str, fraction: float) -> None:
        self._end()
        self._stage = stage
        self._report(stage, fraction)

    def within(self, start: float, stop: float) -> "ReportWithin":
        """Reports fractions of the running stage as those of the whole."""
        return ReportWithin(self._report, self._stage, start, stop)

    def note_parts(self, durations_ms: Mapping[str, float]) -> None:
        """Of the running stage."""
        self._durations_ms.setdefault(self._stage, 0.0)  # its parts stand behind it
        self._durations_ms |= {f"{self._stage}/{part}": duration for part, duration in durations_ms.items()}

    def finish(self) -> dict[str, float]:
        self._end()
        return self._durations_ms

    def _end(self) -> None:
        now = perf_counter()
        if self._stage:
            self._durations_ms[self._stage] = (now - self._began_at) * 1000
        self._began_at = now


def process_age_ms() -> float:
    """How long this process has been there, to a hundredth of a second; to be asked when its modules are imported."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # from the third on
    born_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, (time.clock_gettime(time.CLOCK_BOOTTIME) - born_s) * 1000)


class ReportWithin:
    """Says something at every hundredth, not at every tensor."""

    def __init__(self, report: ReportProgress, stage: str, start: float, stop: float) -> None:
        self._report = report
        self._stage = stage
        self._start = start
        self._stop = stop
        self._last = start

    def __call__(self, fraction: float) -> None:
        overall = self._start + fraction * (self._stop - self._start)
        if overall >= self._last + 0.01:
            self._last = overall
            self._report(self._stage, overall)
