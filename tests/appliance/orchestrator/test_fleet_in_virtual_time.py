"""Whatever happens to the fleet, in whatever order, certain things stay true."""

import random
from pathlib import Path

import pytest

from tests.appliance.orchestrator.fleet_world import FleetWorld, fleet_world
from tests.fakes.virtual_time import run_in_virtual_time

NUM_STEPS = 2000
EVENTS = {
    FleetWorld.create: 6,
    FleetWorld.delete: 3,
    FleetWorld.scale: 8,
    FleetWorld.update: 3,
    FleetWorld.request: 40,
    FleetWorld.crash: 5,
    FleetWorld.jump: 2,
    FleetWorld.claim: 5,
    FleetWorld.restart: 1,
    FleetWorld.pass_time: 30,
}


@pytest.mark.slow
def test_the_ledger_equals_the_live_workers_and_nobody_waits_too_long_whatever_happens(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    run_in_virtual_time(live(tmp_path, seed))


async def live(directory: Path, seed: int) -> None:
    async with fleet_world(directory, seed) as world:
        for _ in range(NUM_STEPS):
            (event,) = world.random.choices(list(EVENTS), list(EVENTS.values()))
            await event(world)
            await world.check()
        print(f"{world.num_answered} answered, {world.num_refused} refused, longest wait {world.longest_wait_s:.1f} s")
        assert world.num_answered > NUM_STEPS / 10
