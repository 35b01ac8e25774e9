import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import Deployment, DeploymentState
from appliance.errors import Code, HearthError
from appliance.orchestrator.group import ColdStart
from appliance.orchestrator.router import OVERLOAD_FACTOR, OVERLOAD_SLACK, NotWanted, choose, describe
from appliance.store.database import Database
from runtime.protocol import Submit
from runtime.submission import TextPrompt
from tests.appliance.orchestrator.world import World, running_world
from tests.fakes.fake_worker import FakeModel, Script, answer
from tests.waiting import until


async def refused(world: World, deployment: Deployment) -> HearthError:
    with pytest.raises(HearthError) as raised:
        async with world.router.lease(deployment, None, wait_s=0.05):
            pass
    return raised.value


loads_by_index = st.dictionaries(st.integers(0, 15), st.integers(0, 50), min_size=1)
keys = st.text(min_size=1)


@given(loads_by_index)
def test_without_a_key_the_least_loaded_takes_it(loads: dict[int, int]) -> None:
    assert loads[choose(loads, None)] == min(loads.values())


@given(st.sets(st.integers(0, 15), min_size=2), keys)
def test_a_key_moves_only_when_its_own_replica_goes(indexes: set[int], key: str) -> None:
    loads = dict.fromkeys(indexes, 0)
    own = choose(loads, key)
    for gone in indexes - {own}:
        assert choose({index: 0 for index in indexes if index != gone}, key) == own


@given(loads_by_index, keys)
def test_a_key_never_leads_to_a_clearly_overloaded_replica(loads: dict[int, int], key: str) -> None:
    assert loads[choose(loads, key)] <= OVERLOAD_FACTOR * min(loads.values()) + OVERLOAD_SLACK


def test_keys_spread_over_all_replicas() -> None:
    taken = Counter(choose(dict.fromkeys(range(4), 0), f"user-{number}") for number in range(1000))
    assert set(taken) == {0, 1, 2, 3}
    assert max(taken.values()) < 2 * min(taken.values())


async def test_requests_go_where_fewest_are_in_flight(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=3, behaviour=FakeModel(step_ms=20.0))
        await world.until_ready("d", 3)
        requests = [asyncio.create_task(world.ask(deployment, f"hello {number}")) for number in range(9)]
        await until(lambda: [view.num_in_flight for view in world.views("d")] == [3, 3, 3])
        await asyncio.gather(*requests)
        assert [view.num_in_flight for view in world.views("d")] == [0, 0, 0]


async def test_requests_of_one_session_go_to_one_replica_if_the_deployment_has_it_so(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=3)
        await world.until_ready("d", 3)

        async def pids(deployment: Deployment, key: str) -> set[int]:
            async with AsyncExitStack() as leases:
                lease = partial(world.router.lease, deployment, key, wait_s=60.0)
                return {(await leases.enter_async_context(lease())).pid for _ in range(3)}

        without = msgspec.structs.replace(deployment, enable_session_affinity=False)
        for key in ("ada", "grace", "barbara"):
            assert len(await pids(deployment, key)) == 1
            assert len(await pids(without, key)) == 3


async def test_a_request_waits_for_a_replica_to_become_ready(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=0.5))
        assert await world.ask(deployment, "hello") == answer("hello")


@pytest.mark.parametrize("change", [{"desired_replica_count": 0}, {"state": DeploymentState.DELETING}])
async def test_a_request_stops_waiting_when_nothing_is_wanted_any_more(
    tmp_path: Path, database: Database, change: dict[str, Any]
) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load="hang"))
        waiting = asyncio.create_task(world.ask(deployment, "hello"))
        await until(lambda: world.views("d"))
        await world.change(deployment, **change)
        with pytest.raises(NotWanted):
            await waiting


async def test_a_request_gives_up_waiting_and_the_load_goes_on(tmp_path: Path, database: Database) -> None:
    # With no host memory to sleep in, a replica that is not wanted is stopped.
    async with running_world(tmp_path, database, cold_start_wait_s=17.0, host_cache_bytes=0) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=1.0))
        refusal = await refused(world, deployment)
        assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "DEPLOYMENT_SCALING_UP")
        assert refusal.retry_after_s == 17.0  # nothing learned yet
        await world.until_ready("d")

        await world.change(deployment, desired_replica_count=0)
        await until(lambda: not world.views("d"))
        await world.change(deployment, desired_replica_count=1)
        refusal = await refused(world, deployment)
        assert refusal.retry_after_s is not None
        assert 2.0 <= refusal.retry_after_s < 17.0  # learned: a load takes a little over a second


async def test_who_waits_is_told_how_far_the_load_is(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=10.0))
        await until(lambda: "ready in about" in world.router.forecast(deployment, wait_s=3600.0))
        assert world.router.forecast(deployment, wait_s=0.1) == "", "it would not wait long enough"
        refusal = await refused(world, deployment)
        assert re.search(r"is scaling up: loading \d+ % \(weights\)", refusal.message)
        start = refusal.details["cold_start"]
        assert isinstance(start, dict)
        assert start["stage"] == "weights"
        assert 0 <= start["percent"] <= 100


def test_a_forecast_is_a_line_for_people() -> None:
    assert describe(ColdStart("weights", 0.404, 2.1)) == "loading 40 % (weights), ready in about 3 s"
    assert describe(ColdStart("starting", 0.0, None)) == "loading 0 % (starting)"


async def test_a_client_that_leaves_does_not_cancel_the_load(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=0.5))
        asking = asyncio.create_task(world.ask(deployment, "hello"))
        await until(lambda: world.views("d"))
        asking.cancel()
        await world.until_ready("d")


async def test_a_request_for_what_has_no_place_is_told_why(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", gigabytes=100)
        await until(lambda: world.observer.message("d"))
        refusal = await refused(world, deployment)
        assert refusal.reason == "DEPLOYMENT_SCALING_UP"
        assert "80.0 GiB" in refusal.message
        assert world.router.forecast(deployment, wait_s=30.0) == "", "there is nothing to look forward to"


async def test_a_request_for_what_has_failed_is_refused_at_once(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load="refuse"))
        with pytest.raises(HearthError) as raised:
            await world.ask(deployment, "hello")
        assert (raised.value.code, raised.value.reason) == (Code.UNAVAILABLE, "DEPLOYMENT_FAILED")
        assert "not to be served" not in raised.value.message


async def test_requests_aborted_in_queue_prefill_and_stream_leave_the_worker_idle(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(max_num_running=2))
        streaming, prefilling, queued = Script(num_tokens=10**6), Script(prefill_ms=1e9), Script()
        async with world.router.lease(deployment, None, wait_s=60.0) as client:
            outputs = [
                client.generate(Submit(request_id=f"r{number}", prompt=TextPrompt(text=script.text())))
                for number, script in enumerate([streaming, prefilling, queued])
            ]
            tasks = [asyncio.ensure_future(anext(stream)) for stream in outputs]
            await tasks[0]
            await until(lambda: client.vitals.heartbeat is not None and client.vitals.heartbeat.num_waiting == 1)
            for task, stream in zip(tasks, outputs, strict=True):
                task.cancel()
                await asyncio.wait({task})
                async with aclosing(stream):
                    pass
            await until(lambda: client.vitals.heartbeat is not None and not client.vitals.heartbeat.is_busy)
            assert client.num_in_flight == 0
