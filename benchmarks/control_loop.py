"""What the control loop costs: 8 simulated GPUs, 200 deployments, 64 replicas with scripted workers in processes.

The share of one core that the daemon's side takes while nothing happens, and how long one look takes: reading what is
desired, planning, carrying it out. One JSON line per row. `scripts/bench control_loop --idle-s 30`
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.config import FleetSettings
from appliance.domain import Account, Deployment
from appliance.orchestrator.gpus import discover_inventory
from appliance.orchestrator.supervisor import Supervisor
from appliance.store import accounts, deployments, models
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import FAKE_WORKER, sample_deployment, sample_model
from tests.appliance.orchestrator.world import RecordingObserver
from tests.fakes.fake_worker import FakeModel
from tests.waiting import until

NUM_GPUS, NUM_DEPLOYMENTS, NUM_REPLICAS = 8, 200, 64
MODEL_GIGABYTES = 8
NUM_TICKS = 50
SETTLE_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-s", type=float, default=20.0, help="how long nothing happens")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for row in asyncio.run(measure(Path(directory), options.idle_s)):
            print(json.dumps({"benchmark": "control_loop"} | row | {"conditions": _conditions()}), flush=True)


def _conditions() -> dict[str, Any]:
    return {
        "gpus": f"{NUM_GPUS} simulated",
        "deployments": NUM_DEPLOYMENTS,
        "replicas": f"{NUM_REPLICAS}, scripted workers, a heartbeat a second each",
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


async def measure(directory: Path, idle_s: float) -> list[dict[str, Any]]:
    database = await Database.open(directory / "hearth.db", bytes(32))
    settings = FleetSettings(
        simulated_gpus=f"{NUM_GPUS}xNVIDIA_H100_80GB", worker_command=FAKE_WORKER, num_spare_workers=0
    )
    models_dir = directory / "models"
    (models_dir / "m").mkdir(parents=True)
    FakeModel(heartbeat_s=1.0).write(models_dir / "m")
    rows = await _fill(database)
    supervisor = Supervisor(settings, database, discover_inventory(settings), models_dir, directory / "run")
    supervisor.observer = RecordingObserver(database)
    await supervisor.start()
    try:
        await until(lambda: _num_ready(supervisor) == NUM_REPLICAS, deadline_s=300.0)
        await asyncio.sleep(SETTLE_S)
        idle = await _measure_idle(supervisor, idle_s)
        change = await _measure_ticks(supervisor, lambda number: _rename(database, rows[number]))
        await _want_all(database, rows)
        supervisor.notify()
        await until(lambda: supervisor.explanation("acme", rows[-1].id) is not None)
        waiting = await _measure_ticks(supervisor, lambda number: _rename(database, rows[number], desired=1))
    finally:
        await supervisor.close(drain_s=0.0)
        await database.close()
    num_waiting = NUM_DEPLOYMENTS - NUM_REPLICAS
    return [
        {"row": "idle_core_percent", "percent": idle, "seconds": idle_s, "target": "below 5"},
        {"row": "tick_after_a_change_ms", **change, "target": "below 20"},
        {"row": f"tick_while_{num_waiting}_wait_for_room_ms", **waiting},
    ]


async def _fill(database: Database) -> list[Deployment]:
    async with database.transaction() as tx:
        await accounts.insert(tx, Account(id="acme", created_at=0.0, updated_at=0.0))
        await models.insert(tx, sample_model("m", MODEL_GIGABYTES))
        rows = [
            sample_deployment(
                id=f"d{number:03}",
                desired_replica_count=1 if number < NUM_REPLICAS else 0,
                created_at=float(number),
                last_used_at=tx.now,
            )
            for number in range(NUM_DEPLOYMENTS)
        ]
        for row in rows:
            await deployments.insert(tx, row)
    return rows


def _num_ready(supervisor: Supervisor) -> int:
    return sum(view.ready_at is not None for _, view in supervisor.all_replicas())


async def _measure_idle(supervisor: Supervisor, seconds: float) -> float:
    """Of this process: the supervisor, 64 connections, the store; the workers are processes of their own."""
    began, spent = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return round(100 * (time.process_time() - spent) / (time.perf_counter() - began), 2)


async def _measure_ticks(supervisor: Supervisor, change: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    """Each after a commit, so that all rows are read again."""
    ticks_ms = []
    for number in range(NUM_TICKS):
        await change(number)
        num_looks = supervisor.num_looks
        supervisor.notify()
        await until(lambda: supervisor.num_looks > num_looks)  # noqa: B023 - it is called before the next round
        ticks_ms.append(1000 * supervisor.look_s)
    return {"median": round(statistics.median(ticks_ms), 2), "max": round(max(ticks_ms), 2), "ticks": NUM_TICKS}


async def _rename(database: Database, row: Deployment, desired: int | None = None) -> None:
    count = row.desired_replica_count if desired is None else desired
    async with database.transaction() as tx:
        changed = msgspec.structs.replace(row, display_name=f"at {tx.now}", desired_replica_count=count)
        await deployments.update(tx, changed)


async def _want_all(database: Database, rows: list[Deployment]) -> None:
    async with database.transaction() as tx:
        for row in rows:
            await deployments.update(tx, msgspec.structs.replace(row, desired_replica_count=1))


if __name__ == "__main__":
    main()
