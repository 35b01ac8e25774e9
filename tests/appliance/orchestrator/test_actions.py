from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from appliance.config import GIB
from appliance.domain import Deployment
from appliance.orchestrator.actions import Actions
from appliance.orchestrator.assignment import Served
from appliance.orchestrator.fleet import Action, Demand, Evict, Grant, Priority, Sleep, Start, Stop, Wake, Yield
from appliance.orchestrator.requirements import Requirement
from appliance.store.database import Database
from tests.appliance.orchestrator.roster_world import SIZE, RosterWorld, roster_world
from tests.appliance.orchestrator.samples import sample_info
from tests.waiting import until

NAME = "accounts/acme/deployments/d"
LABEL = f"{NAME}/replicas/0"


class Stage(NamedTuple):
    world: RosterWorld
    actions: Actions
    evicted: list[tuple[str, int, str]]

    async def carry_out(self, *actions: Action) -> None:
        served = Served(Path("/models/m"), sample_info())
        requirement = Requirement(
            served, None, (Demand(SIZE, None, 1),), fixed_bytes=GIB, footprint_key="key", footprint=None
        )
        await self.actions.carry_out(actions, {NAME: requirement}, self._evict)

    async def _evict(self, deployment: Deployment, to_count: int, reason: str) -> None:
        self.evicted.append((deployment.id, to_count, reason))


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Stage]:
    async with roster_world(database) as world:
        actions = Actions(
            world.settings,
            world.inventory.devices,
            world.ledger,
            world.roster,
            world.claims,
            world.spares,
            world.weight_cache,
        )
        yield Stage(world, actions, [])
        await world.weight_cache.close()


async def test_a_replica_is_started_put_to_sleep_woken_and_stopped(stage: Stage) -> None:
    replicas = stage.world.group.replicas
    await stage.carry_out(Start(NAME, 0, ("simulated-0", "simulated-1"), SIZE))
    await until(lambda: replicas[0].is_ready)
    assert stage.world.ledger.by_owner("simulated-1") == {LABEL: SIZE}
    await stage.carry_out(Sleep(NAME, 0, "no replica is desired"))
    await until(lambda: replicas[0].is_asleep)
    await stage.carry_out(Wake(NAME, 0))
    await until(lambda: replicas[0].is_ready)
    await stage.carry_out(Stop(NAME, 0, None, "no replica is desired"))
    await until(lambda: not replicas)


async def test_one_that_gave_up_is_forgotten_when_it_is_to_stop(stage: Stage) -> None:
    stage.world.launcher.scripts["d"].ending = "refused"
    await stage.carry_out(Start(NAME, 0, ("simulated-0",), SIZE))
    await until(lambda: stage.world.group.has_failed)
    await stage.carry_out(Stop(NAME, 0, None, "no replica is desired"))
    assert not stage.world.group.replicas


async def test_an_eviction_is_told_to_who_writes_rows(stage: Stage) -> None:
    await stage.carry_out(Evict(NAME, 0, "made room for a lease"))
    assert stage.evicted == [("d", 0, "made room for a lease")]


async def test_a_claim_is_granted_and_asked_back(stage: Stage) -> None:
    claim = stage.world.claims.add("job 1", "acme", Priority.JOB, Demand(SIZE, None, 1), True, now=0.0)
    await stage.carry_out(Grant("job 1", ("simulated-1",), SIZE))
    assert await claim.granted() == ["simulated-1"]
    assert stage.world.ledger.by_owner("simulated-1") == {"job 1": SIZE}
    await stage.carry_out(Yield("job 1", "a deployment needs the memory"))
    assert claim.asked_back.is_set()
    claim.release()


async def test_what_was_released_since_the_plan_was_made_is_granted_nothing(stage: Stage) -> None:
    stage.world.claims.add("job 1", "acme", Priority.JOB, Demand(SIZE, None, 1), True, now=0.0).release()
    await stage.carry_out(Grant("job 1", ("simulated-1",), SIZE), Yield("job 1", "?"))
    assert stage.world.ledger.by_owner("simulated-1") == {}


async def test_what_does_not_fit_any_more_is_left_to_the_next_plan(stage: Stage) -> None:
    stage.world.ledger.reserve("somebody", ["simulated-0"], 75 * GIB)
    await stage.carry_out(Start(NAME, 0, ("simulated-0",), SIZE), Start(NAME, 1, ("simulated-1",), SIZE))
    assert list(stage.world.group.replicas) == [1]
    stage.world.ledger.release("somebody")


async def test_one_actions_error_does_not_keep_the_others_from_being_done(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.carry_out(Stop(NAME, 7, None, "there is no such replica"), Evict(NAME, 0, "as the test asked"))
    assert "carrying out Stop" in caplog.text
    assert len(stage.evicted) == 1
