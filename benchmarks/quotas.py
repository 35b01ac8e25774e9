"""What quotas cost: the same answers by a scripted engine without quotas, with rates, and with a budget, in turns.

`scripts/bench quotas` prints one JSON line for each. A budget waits for the disk before and after each answer, all
requests of a moment together; rates and metering wait for nothing.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from appliance.api.control.quotas import NO_LIMIT
from appliance.config import Config, FleetSettings, ServerSettings
from appliance.daemon import Daemon, running_daemon
from benchmarks.http_path import CONDITIONS, MODEL, call
from tests.fakes.fake_worker import FakeModel

PLENTY = 10**15
RATES = ("requests-per-minute", "prompt-tokens-per-minute", "generated-tokens-per-minute")
CASES: dict[str, tuple[str, ...]] = {"none": (), "rates": RATES, "budget": ("monthly-tokens",)}
LIMITS = (*RATES, "monthly-tokens")
NUM_SINGLE = 20


async def set_limits(client: httpx.AsyncClient, quotas: tuple[str, ...]) -> None:
    for quota in LIMITS:
        value = PLENTY if quota in quotas else NO_LIMIT
        answer = await client.patch(f"/v1/accounts/hearth/quotas/{quota}", json={"value": str(value)})
        answer.raise_for_status()


async def latency_ms(client: httpx.AsyncClient) -> float:
    """Of one request at a time, an answer of one token."""
    body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    times = []
    for _ in range(NUM_SINGLE):
        started = time.perf_counter()
        (await client.post("/v1/chat/completions", json=body)).raise_for_status()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


async def measure(
    daemon: Daemon, key: str, client: httpx.AsyncClient, num_streams: int, num_tokens: int
) -> dict[str, float]:
    cpu_start = time.process_time()
    found = await call(daemon, key, num_streams, num_tokens)
    cpu_s = time.process_time() - cpu_start
    assert found["num_complete"] == num_streams, found
    return {
        "requests_per_s": num_streams / found["seconds"],
        "daemon_cpu_us_per_token": cpu_s / (num_streams * num_tokens) * 1e6,
        "latency_ms": await latency_ms(client),
    }


async def run(data_dir: Path, num_rounds: int, num_streams: int, num_tokens: int) -> None:
    config = Config(
        data_dir=data_dir,
        server=ServerSettings(port=0, max_connections=4096, max_connections_per_address=4096),
        fleet=FleetSettings(worker_command=[sys.executable, "-m", "tests.fakes.fake_worker"]),
    )
    async with running_daemon(config) as daemon:
        for directory in (data_dir / "models").iterdir():
            FakeModel(step_ms=0.0).write(directory)
        key = (data_dir / "admin-api-key").read_text().strip()
        await call(daemon, key, 1, 2)  # wakes the deployment
        rounds: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=daemon.base_url, headers=headers, timeout=60.0) as client:
            for _ in range(num_rounds):
                for case, quotas in CASES.items():
                    await set_limits(client, quotas)
                    rounds[case].append(await measure(daemon, key, client, num_streams, num_tokens))
    for case, measured in rounds.items():
        medians = {name: round(statistics.median(one[name] for one in measured), 2) for name in measured[0]}
        row = {"benchmark": "quotas", "quotas": case, "num_streams": num_streams, "tokens_per_stream": num_tokens}
        print(json.dumps(row | medians | CONDITIONS), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=50, help="per stream")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory), options.rounds, options.streams, options.tokens))


if __name__ == "__main__":
    main()
