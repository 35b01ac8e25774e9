"""The control plane over HTTP: how long a page of a long list takes, and how many resources a second can be made.

`scripts/bench control_plane` prints one JSON line per row. The daemon is a real process with a real database
(synchronous=FULL, the audit row in every transaction), and so are the clients (`control_client.py`), on one machine.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from appliance.domain import Model, ModelState
from appliance.services.keyring import load_keyring
from appliance.store import models
from appliance.store.database import Database
from tests.appliance.store.samples import INFO
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon

NUM_MODELS = 10_000
ACCOUNT = "/v1/accounts/hearth"
PAGES_OF_EACH = 20
QUERIES: dict[str, dict[str, str]] = {
    "default": {},
    "largest page": {"pageSize": "200"},
    "filtered": {"filter": 'state=READY AND displayName:"number 7"'},
    "ordered": {"orderBy": "createTime desc"},
    "filtered and ordered": {"filter": 'state=READY AND displayName:"number 7"', "orderBy": "displayName desc"},
}
NUM_CLIENTS = (1, 8, 32)
PACE = 300
"""Requests a second that the last rows offer; the others ask as fast as they are answered."""
CONDITIONS = {
    "machine": platform.machine(),
    "cpus": os.cpu_count(),
    "python": platform.python_version(),
    "synchronous": "FULL",
    "audit": True,
}


async def fill(data_dir: Path) -> None:
    """Models whose files nobody misses, as many as a list is to have."""
    audit_key = load_keyring(data_dir / "master-key").derive("audit/v1")
    database = await Database.open(data_dir / "hearth.db", audit_key)
    async with database.transaction() as tx:
        for number in range(NUM_MODELS):
            model = Model(
                account_id="hearth",
                id=f"model-{number:05}",
                display_name=f"number {number}",
                state=ModelState.READY,
                directory=f"hearth-model-{number:05}",
                info=INFO,
                created_at=tx.now + number,
                updated_at=tx.now + number,
            )
            await models.insert(tx, model)
    await database.close()


def time_lists(daemon: DaemonProcess) -> Iterator[dict[str, Any]]:
    with daemon.client() as client:
        yield {"list": "first after the start", "ms": round(time_page(client, {})[0], 1)}
        for name, query in QUERIES.items():
            yield {"list": name, **spread(time_pages(client, query))}
            client.post(f"{ACCOUNT}/models", json=new_model(f"between-{name.replace(' ', '-')}")).raise_for_status()
            yield {"list": f"{name}, after a change", "ms": round(time_page(client, query)[0], 1)}


def time_pages(client: httpx.Client, query: dict[str, str]) -> list[float]:
    """The first pages, and the last."""
    times_ms, token = [], ""
    for _ in range(PAGES_OF_EACH):
        took_ms, token = time_page(client, {**query, "pageToken": token})
        times_ms.append(took_ms)
        if not token:
            break
    return times_ms


def time_page(client: httpx.Client, query: dict[str, str]) -> tuple[float, str]:
    began = time.perf_counter()
    response = client.get(f"{ACCOUNT}/models?{urlencode(query)}")
    took_ms = (time.perf_counter() - began) * 1000
    response.raise_for_status()
    return took_ms, response.json()["nextPageToken"]


def time_last_page(daemon: DaemonProcess) -> dict[str, Any]:
    with daemon.client() as client:
        token, took_ms, num_pages = "", 0.0, 0
        while not num_pages or token:
            took_ms, token = time_page(client, {"pageSize": "200", "pageToken": token})
            num_pages += 1
    return {"list": "last page", "ms": round(took_ms, 1), "pages": num_pages}


def spread(times_ms: list[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    return {"ms_p50": round(ordered[len(ordered) // 2], 1), "ms_max": round(ordered[-1], 1), "pages": len(ordered)}


def new_model(model_id: str) -> dict[str, Any]:
    return {"modelId": model_id, "model": {"displayName": "made by the benchmark"}}


async def time_resources(
    daemon: DaemonProcess, num_clients: int, num_requests: int, pace: float
) -> list[dict[str, Any]]:
    """Made and read; the clients are a process of their own."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.control_client"),
        *(daemon.base_url, daemon.api_key, str(num_clients), str(num_requests), str(pace)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await client.communicate()
    return [json.loads(line) for line in out.splitlines()]


async def measure(directory: Path, num_requests: int) -> None:
    with running_daemon(directory / "data", num_spare_workers=0) as daemon:
        for num_clients, pace in (*((number, 0) for number in NUM_CLIENTS), (NUM_CLIENTS[-1], PACE)):
            for row in await time_resources(daemon, num_clients, num_requests, pace):
                show(row)
        daemon.stop()
        await fill(daemon.data_dir)
        daemon.start()
        for row in time_lists(daemon):
            show({"models": NUM_MODELS, **row})
        show({"models": NUM_MODELS, **time_last_page(daemon)})


def show(row: dict[str, Any]) -> None:
    print(json.dumps({"benchmark": "control_plane", **row, **CONDITIONS}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1500, help="of each kind, by all clients together")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), arguments.requests))


if __name__ == "__main__":
    main()
