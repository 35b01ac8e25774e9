"""A replica is killed every second under many streams. `benchmarks/stream_kills.py` has a thousand, for longer."""

import random
from pathlib import Path

import pytest

from tests.end_to_end.invariants import check_invariants, footing
from tests.end_to_end.observation import ask
from tests.end_to_end.stream_kills import NAME, four_replicas, storm

NUM_CALLERS = 100
SECONDS = 4.0


@pytest.mark.slow
async def test_every_stream_ends_cleanly_while_replicas_are_killed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with four_replicas(tmp_path, step_ms=40.0) as daemon:
        ask(daemon, model=NAME)
        start = footing(daemon)
        result = await storm(daemon, random.Random(seed), NUM_CALLERS, SECONDS)
        assert not result.unclean, result
        assert result.num_kills >= 2
        assert result.endings["complete"] >= NUM_CALLERS / 2
        assert result.endings["error event WORKER_LOST"]
        ask(daemon, model=NAME)
        check_invariants(daemon, start)
        assert "Traceback" not in daemon.log()
