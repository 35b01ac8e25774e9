"""All benchmarks of the fleet, one after the other; each prints its JSON lines. An hour and a half at full counts.

`scripts/bench fleet` for all, `scripts/bench fleet --fault-share 0.05` for a look in some ten minutes.
"""

import argparse
import subprocess
import sys

PARTS = ("fleet_simulation", "control_loop", "cold_start", "adapters", "stream_kills", "faults")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--fault-share", type=float, default=1.0, help="of the full counts of faults")
    options = parser.parse_args()
    statuses = []
    for part in options.only:
        arguments = ["--share", str(options.fault_share)] if part == "faults" else []
        statuses.append(
            subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *arguments], check=False).returncode
        )
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
