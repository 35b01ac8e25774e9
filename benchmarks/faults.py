"""Faults of workers and of the daemon, one after the other at full counts. Prints one JSON line for each.

What is promised of a fault is asserted each time, and after it the invariants of `tests/end_to_end/invariants.py`; a
line is printed only when all of it held. `scripts/bench faults [--only F1,F12] [--share 0.1]`
"""

import argparse
import json
import platform
import random
import tempfile
import time
from pathlib import Path

from benchmarks.daemon_faults import DAEMON_FAULTS
from benchmarks.fault_rows import Fault
from benchmarks.worker_faults import WORKER_FAULTS


def run(fault: Fault, share: float, seed: int) -> dict[str, object]:
    count = max(1, round(fault.num_times * share))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        figures = fault.run(Path(directory), random.Random(f"{seed} {fault.number} {fault.what}"), count)
    return {
        "benchmark": "faults",
        "fault": fault.number,
        "what": fault.what,
        "count": count,
        **figures,
        "held": fault.invariants,
        "seconds": round(time.perf_counter() - start),
        "seed": seed,
        "engine": fault.engine,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults by number, such as F1,F12; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the full counts")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    wanted = set(options.only.split(",")) - {""}
    for fault in [*WORKER_FAULTS, *DAEMON_FAULTS]:
        if not wanted or fault.number in wanted:
            print(json.dumps(run(fault, options.share, options.seed)), flush=True)


if __name__ == "__main__":
    main()
