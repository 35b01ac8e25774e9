"""The clients of `control_plane.py`, all in this one process: create models, then read them.

Arguments: base URL, key, number of clients, number of requests of each kind, and how many a second: 0 for as many as
they can. Where they are paced, a request's time counts from when it was due. Prints one JSON line per kind.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp

Ask = Callable[[int], Awaitable[None]]


async def run(base_url: str, key: str, num_clients: int, num_requests: int, pace: float) -> None:
    models = "/v1/accounts/hearth/models"
    prefix = f"of-{num_clients}-at-{pace:.0f}"
    async with aiohttp.ClientSession(
        base_url,
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=num_clients),
        raise_for_status=True,
    ) as session:

        async def create(number: int) -> None:
            body = {"modelId": f"{prefix}-{number}", "model": {"displayName": "made by the benchmark"}}
            async with session.post(models, json=body) as response:
                await response.read()

        async def get(number: int) -> None:
            async with session.get(f"{models}/{prefix}-{number}") as response:
                await response.read()

        for name, ask in (("create", create), ("get", get)):
            row = await time_all(ask, num_clients, num_requests, pace)
            print(json.dumps({"request": name, "clients": num_clients, "offered_per_second": pace or None, **row}))


async def time_all(ask: Ask, num_clients: int, num_requests: int, pace: float) -> dict[str, float]:
    numbers = iter(range(num_requests))
    times_ms: list[float] = []

    async def ask_in_turn() -> None:
        for number in numbers:
            due = started + number / pace if pace else time.perf_counter()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await ask(number)
            times_ms.append((time.perf_counter() - due) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(ask_in_turn() for _ in range(num_clients)))
    took_s = time.perf_counter() - started
    ordered = sorted(times_ms)
    return {
        "requests_per_second": round(num_requests / took_s, 1),
        "ms_p50": round(ordered[len(ordered) // 2], 2),
        "ms_p99": round(ordered[int(len(ordered) * 0.99)], 2),
    }


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
