"""A thousand streams at all times over four scripted replicas, one of which is killed every second.

Each of the callers begins a new stream when its last one has ended. Prints one JSON line; fails when a stream hung,
broke off or had two endings, or when the daemon does not return to what it held at the start.
`scripts/bench stream_kills`
"""

import argparse
import asyncio
import json
import platform
import random
import resource
import tempfile
import time
from pathlib import Path

from tests.end_to_end.invariants import check_invariants, footing
from tests.end_to_end.observation import ask
from tests.end_to_end.stream_kills import NAME, NUM_REPLICAS, NUM_TOKENS, STEP_MS, four_replicas, storm

NUM_CALLERS = 1000
SECONDS = 31.0
"""The first kill is a second after the first stream."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=NUM_CALLERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--step-ms", type=float, default=STEP_MS)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory, four_replicas(Path(directory), options.step_ms) as daemon:
        # What a first storm needs stays with the allocator; only what a second one adds would be a leak.
        asyncio.run(storm(daemon, chance, options.callers, 3.0))
        check_invariants(daemon)
        start = footing(daemon)
        result = asyncio.run(storm(daemon, chance, options.callers, options.seconds))
        recovering_since = time.monotonic()
        ask(daemon, model=NAME)
        recovery_s = time.monotonic() - recovering_since
        check_invariants(daemon, start)
        end = footing(daemon)
    row = {
        "benchmark": "stream_kills",
        "seed": options.seed,
        "callers": options.callers,
        "replicas": NUM_REPLICAS,
        "kills": result.num_kills,
        "streams": sum(result.endings.values()),
        "endings": dict(result.endings.most_common()),
        "unclean": len(result.unclean),
        "seconds": round(result.seconds, 1),
        "next_answer_s": round(recovery_s, 2),
        "rss_mib": [start.rss_bytes >> 20, end.rss_bytes >> 20],
        "open_files": [start.num_fds, end.num_fds],
        "tasks": [start.num_tasks, end.num_tasks],
        "step_ms": options.step_ms,
        "tokens_per_stream": list(NUM_TOKENS),
        "engine": "scripted",
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(row))
    assert not result.unclean, result.unclean[:5]


if __name__ == "__main__":
    main()
