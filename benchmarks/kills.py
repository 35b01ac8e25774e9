"""A soak: `kill -9` of the daemon at random moments while it writes and serves. Prints one JSON line.

After every kill: workers gone within 2 s, ready again within 3 s, every acknowledged row there; else it fails.
`scripts/bench kills --kills 100`
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from tests.end_to_end.daemon_process import running_daemon
from tests.end_to_end.kills import kill_daemon_while_it_writes_and_serves, stored_keys
from tests.end_to_end.observation import ask

RESTART_S_MAX = 3.0
KILLS_PER_DIRECTORY = 20
"""After each kill every row is read back; with a new directory now and then that stays a matter of seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    moments = random.Random(options.seed)
    restart_s: list[float] = []
    start = time.perf_counter()
    num_rows = 0
    for first in range(0, options.kills, KILLS_PER_DIRECTORY):
        num_kills = min(KILLS_PER_DIRECTORY, options.kills - first)
        acknowledged, durations_s = soak(num_kills, moments)
        num_rows += len(acknowledged)
        restart_s += durations_s
    row = {
        "benchmark": "kills",
        "seed": options.seed,
        "kills": options.kills,
        "acknowledged_rows": num_rows,
        "lost_rows": 0,
        "restart_s_median": round(sorted(restart_s)[len(restart_s) // 2], 2),
        "restart_s_max": round(max(restart_s), 2),
        "seconds": round(time.perf_counter() - start),
    }
    print(json.dumps(row))


def soak(num_kills: int, moments: random.Random) -> tuple[set[str], list[float]]:
    """The rows that one daemon acknowledged, all still there, and how long each restart took, in seconds."""
    acknowledged: set[str] = set()
    restart_s = []
    with tempfile.TemporaryDirectory() as directory, running_daemon(Path(directory) / "data") as daemon:
        for _ in range(num_kills):
            kill = kill_daemon_while_it_writes_and_serves(daemon, moments.uniform(0.05, 3.0))
            acknowledged |= kill.acknowledged
            assert kill.restart_s < RESTART_S_MAX, f"ready after {kill.restart_s:.1f} s"
            restart_s.append(kill.restart_s)
            lost = acknowledged - stored_keys(daemon)
            assert not lost, f"{len(lost)} acknowledged rows are gone"
        assert "Hearth" in ask(daemon)
        assert "Traceback" not in daemon.log()
    return acknowledged, restart_s


if __name__ == "__main__":
    main()
