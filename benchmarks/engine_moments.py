"""The engine by what its machine could do at that very moment, for machines whose speed changes within seconds.

On hardware that is shared with strangers a round says as much of them as of the engine. Here jobs of
`benchmarks/engine.py` and looks at the machine's limits take turns, and each job is filed under what the machine
multiplied right before and right after it; one between looks that differ is left out. One JSON line for each row and
band of speed.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.engine_checkpoint import DEFAULT_DIRECTORY, MODEL_FOLDER, make_checkpoint, write_load
from benchmarks.engine_process import OURS, Command, Process, SideProcess
from benchmarks.engine_rows import DECODE, PREFILL, Row, spread
from benchmarks.engine_side import Job

BANDS_TFLOPS = [0.0, 0.3, 0.6, 0.9, 1.2, math.inf]
"""From one to the next; the last is the machine that the targets are for."""
UNEQUAL = 1.25
"""Looks that differ by more have seen another machine before a job than after it."""
NUM_PROMPT_TOKENS, NUM_DECODED = 128, 32
JOBS = [(PREFILL, 1, 512, 1), *((row, num, NUM_PROMPT_TOKENS, NUM_DECODED + 1) for num, row in DECODE.items())]
"""Row, requests, prompt tokens, new tokens: as short as the row allows."""


class Look(NamedTuple):
    read_gb_per_s: float
    matmul_tflops: float


class Moment(NamedTuple):
    """A job and the machine around it."""

    row: str
    value: float
    before: Look
    after: Look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="where the checkpoint is kept")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rows", nargs="*", choices=[row.name for row, *_ in JOBS], help="all unless said")
    arguments = parser.parse_args()
    directory = arguments.directory / MODEL_FOLDER
    make_checkpoint(directory)
    num_tokens = max(num * (prompt + new) for _, num, prompt, new in JOBS)
    write_load(directory, max_context_length=1024, max_num_requests=32, num_tokens=num_tokens)
    rows = arguments.rows or [row.name for row, *_ in JOBS]
    moments = list(take_moments(directory, rows, arguments.minutes * 60))
    for row, *_ in JOBS:
        for line in by_speed(row, moments):
            print(json.dumps(line), flush=True)


def take_moments(directory: Path, rows: list[str], for_s: float) -> Iterator[Moment]:
    """Of all rows in turn."""
    limits_command, log_path = Command("limits", ""), directory.parent / "limits.log"
    end_at = time.monotonic() + for_s
    with (
        SideProcess(Command(OURS, OURS), directory) as side,
        Process(limits_command, "machine_limits.py", [str(directory / "config.json")], log_path) as limits,
    ):
        side.stop()
        limits.stop()
        before, seed = Look(**limits.ask(0)), 0
        while time.monotonic() < end_at:
            for row, num_requests, num_prompt_tokens, num_new_tokens in JOBS:
                if row.name not in rows:
                    continue
                seed += 1  # no prompt is used twice, for prefixes are cached
                figures = side.ask(
                    Job(
                        num_requests=num_requests,
                        num_prompt_tokens=num_prompt_tokens,
                        num_new_tokens=num_new_tokens,
                        seed=seed,
                    )
                )
                after = Look(**limits.ask(0))
                yield Moment(row.name, figures[row.figure], before, after)
                before = after


def by_speed(row: Row, moments: Iterable[Moment]) -> Iterator[dict[str, Any]]:
    """A line for each band of the machine's speed in which the row was taken, slowest first."""
    own = [moment for moment in moments if moment.row == row.name and _is_steady(moment)]
    for low, high in pairwise(BANDS_TFLOPS):
        some = [moment for moment in own if low <= _tflops(moment) < high]
        if some:
            yield {
                "row": row.name,
                "unit": row.unit,
                "matmul_tflops_at_least": low,
                "matmul_tflops": round(median(map(_tflops, some)), 2),
                "read_gb_per_s": round(median(moment.after.read_gb_per_s for moment in some), 1),
                "ours": spread([moment.value for moment in some]),
            }


def _is_steady(moment: Moment) -> bool:
    speeds = sorted([moment.before.matmul_tflops, moment.after.matmul_tflops])
    return speeds[1] <= speeds[0] * UNEQUAL


def _tflops(moment: Moment) -> float:
    return (moment.before.matmul_tflops + moment.after.matmul_tflops) / 2


if __name__ == "__main__":
    main()
