import asyncio
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.orchestrator.router import OVERLOAD_FACTOR, OVERLOAD_SLACK, choose
from appliance.store.database import Database
from runtime.protocol import Submit, TextPrompt
from tests.appliance.orchestrator.world import running_world
from tests.fakes.fake_worker import FakeModel, Script, answer
from tests.waiting import until

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


async def test_requests_of_one_session_go_to_one_replica(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=3)
        await world.until_ready("d", 3)
        for key in ("ada", "grace", "barbara"):
            clients = []
            for _ in range(3):
                async with world.router.lease(deployment, key, wait_s=60.0) as client:
                    clients.append(client)
            assert len(set(map(id, clients))) == 1


async def test_a_request_waits_for_a_replica_to_become_ready(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=0.5))
        assert await world.ask(deployment, "hello") == answer("hello")


async def test_a_request_for_a_deployment_at_zero_is_served_once_it_is_scaled_up(
    tmp_path: Path, database: Database
) -> None:
    async with running_world(tmp_path, database) as world:
        deployment = await world.deploy("d", desired_replica_count=0)
        asking = asyncio.create_task(world.ask(deployment, "hello"))
        await world.change(deployment, desired_replica_count=1)
        assert await asking == answer("hello")


async def test_a_request_gives_up_waiting_and_the_load_goes_on(tmp_path: Path, database: Database) -> None:
    async with running_world(tmp_path, database, cold_start_wait_s=17.0) as world:
        deployment = await world.deploy("d", behaviour=FakeModel(load_s=1.0))
        with pytest.raises(HearthError) as raised:
            async with world.router.lease(deployment, None, wait_s=0.05):
                pass
        assert (raised.value.code, raised.value.reason) == (Code.UNAVAILABLE, "DEPLOYMENT_SCALING_UP")
        assert raised.value.retry_after_s == 17.0  # nothing learned yet
        await world.until_ready("d")

        await world.change(deployment, desired_replica_count=0)
        await until(lambda: not world.views("d"))
        with pytest.raises(HearthError) as raised:
            async with world.router.lease(deployment, None, wait_s=0.05):
                pass
        assert raised.value.retry_after_s is not None
        assert 2.0 <= raised.value.retry_after_s < 17.0  # learned: a load takes a little over a second


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
        with pytest.raises(HearthError, match=r"free: simulated-0 80\.0 GiB") as raised:
            async with world.router.lease(deployment, None, wait_s=0.05):
                pass
        assert raised.value.reason == "DEPLOYMENT_SCALING_UP"


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
