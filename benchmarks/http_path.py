"""The HTTP path without a model: daemon, router, worker socket and SSE around a scripted engine.

`scripts/bench http_path` prints one JSON line per row. Paced rows (a token every 50 ms) tell how late the daemon's
event loop runs; the last row, unpaced, tells how many events a second it can write at all. The callers are a process
of their own and share the machine.
"""

import argparse
import asyncio
import json
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

from appliance.config import Config, FleetSettings, ServerSettings
from appliance.daemon import Daemon, running_daemon
from tests.fakes.fake_worker import FakeModel

MODEL = "accounts/fireworks/models/ember-chat"
LAG_INTERVAL_S = 0.005
CONDITIONS = {"machine": platform.machine(), "python": platform.python_version(), "engine": "scripted"}


class LoopLag:
    """How much later than asked a timer of the daemon's loop fires."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []

    async def sample(self) -> None:
        while True:
            asked = time.perf_counter() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self.lags_ms.append((time.perf_counter() - asked) * 1000)

    def percentile(self, share: float) -> float:
        return sorted(self.lags_ms)[int(share * (len(self.lags_ms) - 1))]


async def call(daemon: Daemon, key: str, num_streams: int, num_tokens: int) -> dict[str, float]:
    host, port = daemon.base_url.removeprefix("http://").split(":")
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.stream_client"),
        *(host, port, key, MODEL, str(num_streams), str(num_tokens)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await client.communicate()
    found: dict[str, float] = json.loads(out)
    return found


async def measure(data_dir: Path, step_ms: float, num_streams: int, num_tokens: int) -> dict[str, object]:
    config = Config(
        data_dir=data_dir,
        server=ServerSettings(port=0, max_connections=4096, max_connections_per_address=4096),
        fleet=FleetSettings(worker_command=[sys.executable, "-m", "tests.fakes.fake_worker"]),
    )
    async with running_daemon(config) as daemon:
        for directory in (data_dir / "models").iterdir():
            FakeModel(step_ms=step_ms).write(directory)
        key = (data_dir / "admin-api-key").read_text().strip()
        await call(daemon, key, 1, 2)  # wakes the deployment
        lag = LoopLag()
        sampler = asyncio.create_task(lag.sample())
        cpu_start = time.process_time()
        found = await call(daemon, key, num_streams, num_tokens)
        cpu_s = time.process_time() - cpu_start
        sampler.cancel()
    return {
        "benchmark": "http_path",
        "num_streams": num_streams,
        "tokens_per_stream": num_tokens,
        "step_ms": step_ms,
        "complete": found["num_complete"],
        "seconds": round(found["seconds"], 2),
        "tokens_per_s": round(num_streams * num_tokens / found["seconds"]),
        "events_per_s": round(found["num_events"] / found["seconds"]),
        "daemon_cpu_us_per_token": round(cpu_s / (num_streams * num_tokens) * 1e6, 1),
        "loop_lag_ms_p50": round(lag.percentile(0.5), 1),
        "loop_lag_ms_p99": round(lag.percentile(0.99), 1),
        "daemon_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **CONDITIONS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=200, help="per stream")
    options = parser.parse_args()
    for step_ms, num_streams in ((50.0, 200), (50.0, 1000), (0.0, 200)):
        with tempfile.TemporaryDirectory() as directory:
            row = asyncio.run(measure(Path(directory), step_ms, num_streams, options.tokens))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
