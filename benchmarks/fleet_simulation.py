"""A day of requests for many models, replayed in seconds against the fleet's pure decisions, and against two others.

Thirty models of different size are asked for by sessions: more by day than by night, in bursts, a few models by most
people (Zipf). One JSON line per policy: GPU-hours (of a whole GPU's memory), loads from cold and from sleep, swaps, and
how long requests waited. `resident` keeps every model loaded on as many GPUs as that takes; `lru` displaces the least
recently used model at once; `hearth` is what the appliance does, with its default windows. What a load takes is
computed from its bytes: this compares decisions, not disks.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence

from appliance.config import FleetSettings
from appliance.domain import AutoscalingPolicy, LoadTarget
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.planning import plan_fleet
from tests.fakes.fake_gpus import fake_device
from tests.fakes.simulated_fleet import (
    Arrival,
    Plan,
    SimulatedFleet,
    SimulatedModel,
    plan_least_recently_used,
)

DAY_S = 86400.0
DEVICE_GIGABYTES = 80
NUM_MODELS = 30
SIZES_GIGABYTES = (6, 10, 18, 18, 30, 40, 70)
ZIPF_EXPONENT = 1.1
START_S = 4.0
"""Of a worker, before its weights."""
READ_GIGABYTES_PER_S = 2.0
WAKE_GIGABYTES_PER_S = 12.0
SESSION_REQUESTS = 6
SESSION_GAP_S = 25.0
SERVICE_S = 6.0
REQUESTS_PER_REPLICA = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=3000, help="in the day")
    parser.add_argument("--host-gigabytes", type=int, default=128, help="of host memory for models that sleep")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    models = make_models(rng)
    arrivals = make_day(rng, models, arguments.sessions)
    devices = [fake_device(index, DEVICE_GIGABYTES) for index in range(arguments.gpus)]
    given = {"seed": arguments.seed, "num_models": len(models), "num_requests": len(arrivals)}
    rows = [
        replay("hearth", plan_fleet, devices, models, arrivals, host_gigabytes=arguments.host_gigabytes),
        replay("lru", plan_least_recently_used, devices, models, arrivals, host_gigabytes=0),
        keep_resident(models),
    ]
    for row in rows:
        print(json.dumps({**row, **given}))


def make_models(rng: random.Random) -> list[SimulatedModel]:
    """The first is asked for most."""
    models = []
    for number in range(NUM_MODELS):
        gigabytes = rng.choice(SIZES_GIGABYTES)
        model = SimulatedModel(
            f"model{number}",
            gigabytes=gigabytes,
            load_s=START_S + gigabytes / READ_GIGABYTES_PER_S,
            wake_s=1.0 + gigabytes / WAKE_GIGABYTES_PER_S,
            host_gigabytes=gigabytes,
            max_replica_count=2,
        )
        models.append(model)
    return models


def make_day(rng: random.Random, models: Sequence[SimulatedModel], num_sessions: int) -> list[Arrival]:
    weights = [1 / (rank + 1) ** ZIPF_EXPONENT for rank in range(len(models))]
    arrivals: list[Arrival] = []
    for began_at in _session_times(rng, num_sessions):
        (model,) = rng.choices(models, weights)
        at = began_at
        while at < DAY_S:
            arrivals.append(Arrival(at, model.name, rng.expovariate(1 / SERVICE_S)))
            if rng.random() < 1 / SESSION_REQUESTS:
                break
            at += rng.expovariate(1 / SESSION_GAP_S)
    return sorted(arrivals)


def _session_times(rng: random.Random, num_sessions: int) -> Iterator[float]:
    """Most in the afternoon, a tenth of that in the dead of night; one in five brings others with it."""
    while num_sessions > 0:
        at = rng.uniform(0, DAY_S)
        if rng.random() > 0.55 - 0.45 * math.cos(2 * math.pi * (at / DAY_S - 2 / 24)):
            continue
        size = rng.randint(2, 8) if rng.random() < 0.2 else 1
        for _ in range(min(size, num_sessions)):
            yield min(at + rng.expovariate(1 / 20), DAY_S - 1)
        num_sessions -= size


def replay(
    policy: str,
    plan: Plan,
    devices: Sequence[Device],
    models: Sequence[SimulatedModel],
    arrivals: Sequence[Arrival],
    *,
    host_gigabytes: int,
) -> dict[str, object]:
    autoscaling = AutoscalingPolicy(load_targets={LoadTarget.CONCURRENT_REQUESTS: REQUESTS_PER_REPLICA})
    fleet = SimulatedFleet(
        devices,
        models,
        FleetSettings(),
        plan,
        host_gigabytes=host_gigabytes,
        policy=autoscaling if plan is plan_fleet else None,
    )
    began_at = time.perf_counter()
    fleet.run(arrivals, until=DAY_S + 3600)
    waits_s = sorted(fleet.waits_s)
    return {
        "policy": policy,
        "num_gpus": len(devices),
        "gpu_hours": round(fleet.device_s / 3600, 1),
        "num_cold_starts": fleet.counts["Start"],
        "num_wakes": fleet.counts["Wake"],
        "num_swaps": fleet.counts["Evict"],
        "wait_s_p50": round(waits_s[len(waits_s) // 2], 2),
        "wait_s_p95": round(waits_s[len(waits_s) * 95 // 100], 2),
        "wait_s_p99": round(waits_s[len(waits_s) * 99 // 100], 2),
        "wait_s_mean": round(sum(waits_s) / len(waits_s), 2),
        "wait_s_max": round(waits_s[-1], 2),
        "replay_s": round(time.perf_counter() - began_at, 1),
    }


def keep_resident(models: Sequence[SimulatedModel]) -> dict[str, object]:
    """Everything loaded once and for all: first fit, the largest first."""
    free: list[int] = []
    for model in sorted(models, key=lambda model: -model.gigabytes):
        index = next((index for index, left in enumerate(free) if left >= model.gigabytes), None)
        if index is None:
            index = len(free)
            free.append(DEVICE_GIGABYTES)
        free[index] -= model.gigabytes
    row = {"policy": "resident", "num_gpus": len(free), "gpu_hours": len(free) * DAY_S / 3600}
    nothing = ["num_wakes", "num_swaps", "wait_s_p50", "wait_s_p95", "wait_s_p99", "wait_s_mean", "wait_s_max"]
    return {**row, "num_cold_starts": len(models), **dict.fromkeys(nothing, 0)}


if __name__ == "__main__":
    main()
