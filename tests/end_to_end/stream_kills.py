"""Many callers, each with one stream after the other, while replicas are killed; shared by the suite and the benchmark.

The replicas are scripted: a token every `STEP_MS`. What is asserted is that every stream has one clean ending.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil

from tests.end_to_end.conftest import EMBER
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.end_to_end.endings import Ending, caller, read_stream
from tests.end_to_end.invariants import footing, replica_pids
from tests.end_to_end.scripted import ACCELERATOR, FAKE, script_model
from tests.fakes.fake_worker import FakeModel, Script

NUM_REPLICAS = 4
NAME = "accounts/hearth/deployments/four"
STEP_MS = 150.0
NUM_TOKENS = (4, 60)
SETTINGS: dict[str, object] = {
    **FAKE,
    "simulated_gpus": f"{NUM_REPLICAS}x{ACCELERATOR}",
    "max_connections": 8192,
    "max_connections_per_address": 8192,
    # So many kills of busy workers would make a deployment FAILED, as they should.
    "crashes_max": 10_000,
    "backoff_max_s": 0.5,
}


class Storm(NamedTuple):
    endings: Counter[str]
    """By how and, for errors, their code."""
    unclean: list[Ending]
    num_kills: int
    seconds: float
    """From the first stream to the end of the last."""


@contextmanager
def four_replicas(directory: Path, step_ms: float = STEP_MS) -> Iterator[DaemonProcess]:
    """A daemon with a deployment of four replicas, all ready."""
    with running_daemon(directory / "data", **SETTINGS) as daemon:
        script_model(daemon, FakeModel(step_ms=step_ms))
        body = {
            "baseModel": EMBER,
            "minReplicaCount": NUM_REPLICAS,
            "maxReplicaCount": NUM_REPLICAS,
            "acceleratorType": ACCELERATOR,
        }
        with daemon.client() as client:
            answer = client.post("/v1/accounts/hearth/deployments", params={"deploymentId": "four"}, json=body)
            assert answer.status_code == 200, answer.text
        wait_until(lambda: len(replica_pids(daemon, NAME)) == NUM_REPLICAS, 60, "four replicas ready")
        wait_until(lambda: footing(daemon).num_workers > NUM_REPLICAS, 60, "a spare worker beside them")
        yield daemon


def request_body(chance: random.Random) -> dict[str, Any]:
    """No two are alike: the same content in flight at two crashes would be refused."""
    num_tokens = chance.randint(*NUM_TOKENS)
    return {
        "model": NAME,
        "max_tokens": num_tokens,
        "messages": [
            {"role": "system", "content": chance.randbytes(8).hex()},
            {"role": "user", "content": Script(num_tokens=num_tokens).text()},
        ],
    }


async def storm(daemon: DaemonProcess, chance: random.Random, num_callers: int, seconds: float) -> Storm:
    """Streams all the time, a kill every second from the first second on; then the last streams end."""
    start = time.monotonic()
    until = start + seconds
    endings: list[Ending] = []

    async with caller(daemon) as session:

        async def call() -> None:
            while time.monotonic() < until:
                ending = await read_stream(session, request_body(chance))
                endings.append(ending)

        callers = [asyncio.create_task(call()) for _ in range(num_callers)]
        num_kills = await _kill_every_second(session, chance, until)
        await asyncio.gather(*callers)
    counts = Counter(f"{ending.how} {ending.code}".strip() for ending in endings)
    return Storm(counts, [ending for ending in endings if not ending.is_clean], num_kills, time.monotonic() - start)


async def _kill_every_second(session: aiohttp.ClientSession, chance: random.Random, until: float) -> int:
    num_kills = 0
    next_at = time.monotonic() + 1.0
    while next_at < until:
        await asyncio.sleep(next_at - time.monotonic())
        next_at += 1.0
        async with session.get("/v1/node/fleet") as response:
            fleet = await response.json()
        ready = [replica["processId"] for replica in fleet["replicas"] if replica["state"] == "READY"]
        if ready:
            psutil.Process(chance.choice(ready)).kill()
            num_kills += 1
    return num_kills
